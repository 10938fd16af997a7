"""A terminal shows live curves, anything else a line for each validation."""

from __future__ import annotations

import io
import time
from typing import Any

from rich.console import Console
from transformers import TrainerState

from fairlead.progress import Bars, Lines
from fairlead.training.monitoring.dashboard import TrainingDashboard, plot


def test_a_plot_fills_from_the_foot_and_keeps_its_size() -> None:
    assert plot([], 4, 2) == ["    ", "    "]
    assert plot([0, 1, 2], 3, 1) == [" ▄█"]
    assert plot([0, 2], 2, 2) == [" █", " █"]
    assert plot([-1, 0], 2, 1) == [" █"]
    assert [len(line) for line in plot(list(range(100)), 10, 3)] == [10, 10, 10]
    assert plot([3, 3], 4, 1) == ["  ██"]


def seen_by(progress: Any, terminal: io.StringIO, pause: float = 0.0) -> str:
    dashboard = TrainingDashboard(progress, clock=iter(float(n) for n in range(99)).__next__)
    state = TrainerState(max_steps=20)
    dashboard.begin(state)
    for step in (5, 10, 20):
        state.global_step = step
        dashboard.show({"loss": 0.6, "rewards/margins": step / 10}, state)
        dashboard.show({"eval_loss": 0.6, "eval_rewards/margins": step / 20}, state)
        dashboard.show({"watch/kl": step / 4, "watch/kl_error": 0.5}, state)
        dashboard.show({"watch/diagnosis": "no alarm", "watch/share": 0.05, "watch/seconds": 1.0}, state)
    time.sleep(pause)
    dashboard.end()
    return terminal.getvalue()


def test_without_a_terminal_each_validation_is_one_line_and_the_cost_is_told() -> None:
    stream = io.StringIO()
    text = seen_by(Lines(Console(file=stream, width=200)), stream)
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0].startswith("step 5/20, loss 0.6, gap 0.5, validation gap 0.25, KL 1.25 ± 0.5")
    assert lines[0].endswith("no alarm")
    assert lines[-1] == "monitoring took 1.0 s, 5.0% of the training"
    assert len(lines) == 5
    assert "\x1b" not in text


def test_in_a_terminal_three_curves_are_drawn() -> None:
    stream = io.StringIO()
    text = seen_by(Bars(Console(file=stream, width=100, force_terminal=True)), stream)
    for title in ("reward gap 2", "KL, nats per answer 5", "validation gap 1", "s left", "no alarm"):
        assert title in text
    assert "█" in text


def test_in_a_terminal_the_curves_stand_beside_the_bar_of_the_run() -> None:
    """The stage's own bar is live already when the dashboard begins."""
    stream = io.StringIO()
    bars = Bars(Console(file=stream, width=100, force_terminal=True))
    with bars.task("dpo", "preferences", 20) as bar:
        bar.update(3)
        text = seen_by(bars, stream, pause=0.5)  # the outer display draws both, ten times a second
    assert "reward gap 2" in text
    assert "preferences" in text


def test_an_alarm_is_printed_once_and_named_after_that() -> None:
    stream = io.StringIO()
    dashboard = TrainingDashboard(Lines(Console(file=stream, width=300)), clock=lambda: 0.0)
    state = TrainerState(max_steps=20)
    dashboard.begin(state)
    for step, sentence in ((5, "no alarm: KL 1"), (10, "kl spike: KL 2; too large"), (15, "kl spike: KL 3; too large")):
        state.global_step = step
        dashboard.show({"watch/diagnosis": sentence}, state)
    dashboard.end()
    assert [line.split(" — ")[-1].strip() for line in stream.getvalue().splitlines()] == [
        "no alarm: KL 1",
        "kl spike: KL 2; too large",
        "kl spike, as before",
        "diagnosis: kl spike, as before",
    ]
