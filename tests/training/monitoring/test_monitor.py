"""The policy's own samples: checking them costs and changes what it should, within its share of the training's time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fairlead.config.monitoring import WatchSettings
from fairlead.training import hf_trainer
from fairlead.training.measurements import METRICS, read_metrics
from fairlead.training.monitoring.monitor import TrainingMonitor
from tests.support.monitored import monitored_trainer


def run(folder: Path, *, samples: int = 6, **dpo: Any) -> tuple[Any, TrainingMonitor, list[dict[str, Any]]]:
    trainer, context = monitored_trainer(folder, **dpo)
    settings = WatchSettings(samples=samples, max_new_tokens=8 if samples else None)
    monitor = TrainingMonitor(trainer, settings, context.out / hf_trainer.CHECKPOINTS, always=True)
    hf_trainer.train(trainer, context, "test", monitor)
    return trainer, monitor, read_metrics(context.out / METRICS)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_training_logs_kl_samples_and_its_own_cost(tiny_project: Path, method: str) -> None:
    trainer, monitor, rows = run(tiny_project, method=method)
    facts = rows[0]
    assert facts["run/beta"] == trainer.beta
    assert facts["run/steps"] == trainer.state.max_steps
    checks = [row for row in rows if "watch/kl" in row]
    assert checks[-1]["step"] == trainer.state.max_steps
    for check in checks:
        assert check["watch/kl"] >= 0
        assert check["watch/kl_token"] >= 0
        assert check["watch/kl_error"] >= 0
        assert 0 < check["watch/length"] <= 8
        assert 0 <= check["watch/cut"] <= 1
        assert check["watch/sample"] is not None
    assert checks[-1]["watch/kl"] > 0  # the policy has moved, so a reference that moved with it would be seen
    assert rows[-1]["watch/share"] == pytest.approx(monitor.budget.clock.share, abs=1e-3)
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, trainer.state.max_steps + 1))
    assert all(row["tokens_per_second"] > 0 for row in steps)


def test_before_the_first_step_policy_and_reference_agree_on_the_samples(tiny_project: Path) -> None:
    trainer, context = monitored_trainer(tiny_project)
    monitor = TrainingMonitor(trainer, WatchSettings(samples=4, max_new_tokens=8), context.out / hf_trainer.CHECKPOINTS)
    samples = monitor.checks.samples
    answers = samples.draw(4)
    assert answers == samples.draw(4, reference=True)
    prompts = samples.prompts[:4]
    ours, theirs = samples.log_probs(prompts, answers), samples.reference_log_probs(prompts, answers)
    assert [len(row) for row in ours] == [len(answer) for answer in answers]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert samples.kls(prompts, answers) == pytest.approx([0.0] * 4, abs=1e-5)


def test_monitoring_does_not_change_what_is_trained(tiny_project: Path) -> None:
    def weights(samples: int, eval_every: int) -> dict[str, torch.Tensor]:
        trainer, _, _ = run(tiny_project, samples=samples, eval_every=eval_every)
        return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}

    monitored, alone = weights(6, eval_every=1), weights(0, eval_every=1000)
    assert all(torch.equal(monitored[name], alone[name]) for name in alone)


class Simulated(TrainerCallback):
    """A clock on which a step, a validation pair, a sampled token and a scoring take what is said."""

    def __init__(self, *, step: float, pair: float, token: float = 0.004, scoring: float = 0.05) -> None:
        self.seconds = 0.0
        self._step, self._pair, self._token, self._scoring = step, pair, token, scoring

    def __call__(self) -> float:
        return self.seconds

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        self.seconds += self._step

    def attend(self, trainer: Any, samples: Any) -> None:
        def costs(function: Any, price: Any) -> Any:
            def paid(*args: Any, **kwargs: Any) -> Any:
                self.seconds += price(*args, **kwargs)
                return function(*args, **kwargs)

            return paid

        trainer.evaluate = costs(
            trainer.evaluate, lambda *_a, **_k: self._pair * (trainer.pass_pairs or len(trainer.eval_dataset))
        )
        samples.draw = costs(samples.draw, lambda *_a, **k: 0.03 + self._token * (k.get("limit") or 40))
        for name, passes in (("log_probs", 1), ("reference_log_probs", 1), ("kls", 2)):
            price = passes * self._scoring
            setattr(samples, name, costs(getattr(samples, name), lambda *_a, price=price, **_k: price))


def budgeted(
    folder: Path, simulated: Simulated, *, keep_folder: bool = False, killed_at: int = 0, **dpo: Any
) -> tuple[Any, TrainingMonitor, list[dict[str, Any]]]:
    trainer, context = monitored_trainer(folder, keep_folder=keep_folder, **dpo)
    settings = WatchSettings(samples=8, max_new_tokens=72)
    monitor = TrainingMonitor(trainer, settings, context.out / hf_trainer.CHECKPOINTS, clock=simulated)
    simulated.attend(trainer, monitor.checks.samples)
    trainer.callback_handler.callbacks.insert(0, simulated)
    if killed_at:
        trainer.add_callback(Killed(killed_at))
    try:
        hf_trainer.train(trainer, context, "test", monitor)
    except KeyboardInterrupt:
        assert killed_at
    return trainer, monitor, read_metrics(context.out / METRICS)


class Killed(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._at = step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        if state.global_step == self._at:
            raise KeyboardInterrupt


DEMO = {"epochs": 13, "validation": 40, "eval_every": 14, "save_every": 14}  # 26 s of training on the simulated clock
COSTS = {"step": 0.5, "pair": 0.0112}


def test_a_training_of_half_a_minute_has_four_passes_and_three_sample_checks_within_a_tenth_of_its_time(
    tiny_project: Path,
) -> None:
    trainer, monitor, rows = budgeted(tiny_project, Simulated(**COSTS), **DEMO)
    assert 45 < trainer.state.max_steps < 60
    passes = [row["eval_pairs"] for row in rows if "eval_pairs" in row]
    assert len(passes) >= 4
    assert passes[-1] == 40
    assert len(set(passes[:-1])) == 1
    assert sum("watch/kl" in row for row in rows) >= 3
    assert monitor.budget.clock.share <= 0.1
    assert rows[-1]["watch/share"] == pytest.approx(monitor.budget.clock.share, abs=1e-3)


@pytest.mark.parametrize(
    ("step", "pair", "dpo"),
    [
        (1.2, 0.075, {"epochs": 6, "validation": 40, "eval_every": 6, "save_every": 6}),
        (0.28, 0.0045, {"epochs": 2, "validation": 100, "eval_every": 4, "save_every": 4}),
        (0.3, 0.0001, {"epochs": 6, "validation": 4, "eval_every": 2, "save_every": 2}),
    ],
)
def test_no_training_is_so_short_that_monitoring_exceeds_its_share(
    tiny_project: Path, step: float, pair: float, dpo: dict[str, Any]
) -> None:
    trainer, monitor, _ = budgeted(tiny_project, Simulated(step=step, pair=pair), **dpo)
    assert monitor.budget.clock.share <= 0.1
    assert len(trainer.eval_dataset) == dpo["validation"]
    assert trainer.pass_pairs is None


def test_passes_over_some_of_the_pairs_need_no_reference_once_full_weights_have_moved(tiny_project: Path) -> None:
    """The pairs' reference log-probabilities were computed before the first step, and are not asked for again."""
    _, _, rows = budgeted(tiny_project, Simulated(step=0.5, pair=0.03), method="full", **DEMO)
    pairs = [row["eval_pairs"] for row in rows if "eval_pairs" in row]
    assert 0 < pairs[0] < DEMO["validation"]


def test_without_validation_pairs_sample_checks_come_at_the_same_steps(tiny_project: Path) -> None:
    dpo = {**DEMO, "validation": 0}
    _, monitor, rows = budgeted(tiny_project, Simulated(**COSTS), **dpo)
    steps = [row["step"] for row in rows if "watch/kl" in row]
    assert len(steps) >= 3
    assert steps[0] == 14
    assert monitor.budget.clock.share <= 0.1


@pytest.mark.slow
def test_a_killed_training_with_a_budget_has_one_continuous_curve(tiny_project: Path) -> None:
    def curve(rows: list[dict[str, Any]], key: str) -> dict[int, Any]:
        with_key = [row for row in rows if key in row]
        assert len({row["step"] for row in with_key}) == len(with_key), "a step stands there twice"
        return {row["step"]: row[key] for row in with_key}

    trainer, _, whole = budgeted(tiny_project, Simulated(**COSTS), **DEMO)
    budgeted(tiny_project, Simulated(**COSTS), killed_at=33, **DEMO)
    again, monitor, rows = budgeted(tiny_project, Simulated(**COSTS), keep_folder=True, **DEMO)
    assert again.state.max_steps == trainer.state.max_steps
    for key in ("loss", "num_tokens", "eval_loss", "eval_pairs"):
        assert curve(rows, key) == curve(whole, key), key
    assert all(value > 0 for value in curve(rows, "tokens_per_second").values())
    assert set(curve(rows, "tokens_per_second")) == set(curve(rows, "loss"))
    before, after = curve(whole, "watch/kl"), curve(rows, "watch/kl")
    assert len(after) >= 3
    assert all(after[step] == before[step] for step in before.keys() & after.keys())
    assert len(set(curve(rows, "watch/samples").values())) == 1
    assert monitor.budget.clock.share <= 0.1
