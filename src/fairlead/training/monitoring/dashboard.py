"""The display of a DPO training: live curves, the time left and the diagnosis; plain lines without a terminal."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from transformers import TrainerState

from fairlead.documents.diagnosis import NO_ALARM
from fairlead.progress import Bars, Progress, Silent
from fairlead.training.measurements import DIAGNOSIS_KEY, Metric, Metrics, number

_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT = 24, 4
_CURVES = (
    ("reward gap", "rewards/margins", "loss"),
    ("KL, nats per answer", "watch/kl", "watch/kl"),
    ("validation gap", "eval_rewards/margins", "eval_loss"),
)


def plot(values: Sequence[float], width: int = _WIDTH, height: int = _HEIGHT) -> list[str]:
    """Columns of eighth blocks, `height` lines from top to bottom; the newest value stands at the right.

    More values than columns are averaged in equal parts. The foot is the smallest value or 0, whichever is lower.
    """
    if not values:
        return [" " * width] * height
    columns = min(width, len(values))
    edges = [round(i * len(values) / columns) for i in range(columns + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(0.0, *means), max(means)
    eighths = [round((v - low) / (high - low) * height * 8) if high > low else 0 for v in means]
    return [
        "".join(_BLOCKS[min(8, max(0, e - 8 * line))] for e in eighths).rjust(width) for line in reversed(range(height))
    ]


class TrainingDashboard:
    """Draws what is logged, live where `progress` is a terminal's, else one line for each validation."""

    def __init__(self, progress: Progress, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress, self._now = progress, clock
        self._values: dict[str, list[float]] = {key: [] for _, key, _ in _CURVES}
        self._newest: dict[str, Metric] = {}
        self._diagnosis = ""
        self._printed = ""  # the diagnosis that was printed last, without its figures
        self._time_left = ""
        self._begun = (0.0, 0)  # time and step at which this run began
        self._live: Live | None = None

    def begin(self, state: TrainerState) -> None:
        """Starts the live view with the curves of the run that is resumed, if one is."""
        self._begun = (self._now(), state.global_step)
        for row in state.log_history:
            self._take(row)
        if isinstance(self._progress, Bars) and self._progress.console.is_terminal:
            self._live = Live(self.panel(), console=self._progress.console, transient=True, refresh_per_second=4)
            self._live.start()

    def show(self, row: Metrics, state: TrainerState) -> None:
        """Shows a row of the log."""
        self._take(row)
        self._time_left = self._estimate_time_left(state)
        if self._live is not None:
            self._live.update(self.panel())
        elif DIAGNOSIS_KEY in row and not isinstance(self._progress, Silent):
            self._progress.line(self.line(state))

    def end(self) -> None:
        """Takes the live view away and prints the diagnosis and what monitoring took."""
        self.close()
        if isinstance(self._progress, Silent):
            return
        if self._diagnosis:
            self._progress.line(f"      diagnosis: {self._news()}")
        seconds, share = (number(self._newest.get(f"watch/{name}")) for name in ("seconds", "share"))
        if seconds is not None and share is not None:
            self._progress.line(f"      monitoring took {seconds:.1f} s, {share:.1%} of the training")

    def close(self) -> None:
        """Takes the live view away; for a training that breaks off."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def panel(self) -> Group:
        """The three curves with their newest values, and a line below."""
        grid = Table.grid(padding=(0, 3))
        titles, plots = [], []
        for title, key, _ in _CURVES:
            values = self._values[key]
            titles.append(Text(f"{title} {values[-1]:.3g}" if values else f"{title} —"))
            plots.append(Text("\n".join(plot(values))))
        grid.add_row(*titles)
        grid.add_row(*plots)
        return Group(grid, Text(f"{self._time_left}  {self._diagnosis}".strip()))

    def line(self, state: TrainerState) -> str:
        """The present state in one line."""
        parts = [f"step {state.global_step}/{state.max_steps}"]
        for name, key in (
            ("loss", "loss"),
            ("gap", "rewards/margins"),
            ("validation gap", "eval_rewards/margins"),
            ("validation accuracy", "eval_rewards/accuracies"),
        ):
            if (value := number(self._newest.get(key))) is not None:
                parts.append(f"{name} {value:.3g}")
        kl, error = number(self._newest.get("watch/kl")), number(self._newest.get("watch/kl_error"))
        if kl is not None:
            parts.append(f"KL {kl:.3g}" + ("" if error is None else f" ± {error:.2g}"))
        parts += [self._time_left] if self._time_left else []
        return f"      {', '.join(parts)} — {self._news()}"

    def _news(self) -> str:
        """The diagnosis; only its name where it was printed before, since the same alarm need not be read twice."""
        name, _, rest = self._diagnosis.partition(":")
        repeated, self._printed = name == self._printed, name
        return f"{name}, as before" if repeated and rest and name != NO_ALARM else self._diagnosis

    def _take(self, row: Metrics) -> None:
        for _, key, kind in _CURVES:
            if kind in row and (value := number(row.get(key))) is not None:
                self._values[key].append(value)
        self._newest |= row
        self._diagnosis = str(row.get(DIAGNOSIS_KEY, self._diagnosis))

    def _estimate_time_left(self, state: TrainerState) -> str:
        started, first = self._begun
        done = state.global_step - first
        if done <= 0:
            return ""
        return f"{(self._now() - started) / done * (state.max_steps - state.global_step):.0f} s left"
