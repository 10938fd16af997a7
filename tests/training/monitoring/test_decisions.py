"""The monitor acts: it stops on a failure mode, keeps the best weights inside the bound, and survives a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fairlead.config.monitoring import Thresholds, WatchSettings
from fairlead.errors import TrainingError
from fairlead.training import hf_trainer
from fairlead.training.measurements import METRICS, read_metrics
from fairlead.training.monitoring.retention_set import read_retention_set
from tests.support.monitored import monitor_of, monitored_trainer, train_monitored


def trained(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def test_the_best_weights_are_those_of_the_step_with_the_largest_validation_gap(tiny_project: Path) -> None:
    """A rate that destroys the model late: what is kept is what was there at the best step."""
    seen: dict[int, dict[str, torch.Tensor]] = {}

    class Snapshots(TrainerCallback):
        def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
            seen[state.global_step] = {
                n: p.detach().clone() for n, p in kw["model"].named_parameters() if p.requires_grad
            }

    settings = WatchSettings(samples=4, max_new_tokens=8, keep="best")
    trainer, monitor, rows = train_monitored(tiny_project, settings, Snapshots(), learning_rate=0.5, epochs=4)
    outcome = monitor.finish(tiny_project)
    gaps = {row["step"]: row["eval_rewards/margins"] for row in rows if "eval_loss" in row}
    assert outcome.kept_step == max(gaps, key=lambda step: gaps[step])
    assert outcome.kept_gap == max(gaps.values())
    for name, tensor in trained(trainer).items():
        assert torch.equal(tensor, seen[outcome.kept_step][name])


def test_outside_the_kl_bound_nothing_is_kept_and_the_smallest_kl_is_told(tiny_project: Path) -> None:
    class Away(TrainerCallback):
        """Takes the policy so far from the reference that no noise of an estimate from samples hides it."""

        def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
            for parameter in kw["model"].parameters():
                if parameter.requires_grad:
                    parameter.data += 2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))

    model = AutoModelForCausalLM.from_pretrained(tiny_project / "model")
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # a random model is near uniform wherever it is taken
    model.save_pretrained(tiny_project / "model")
    settings = WatchSettings(samples=4, max_new_tokens=8, keep="best", max_kl=1e-9)
    _, monitor, rows = train_monitored(tiny_project, settings, Away())
    assert min(row["watch/kl"] for row in rows if "watch/kl" in row) > 1
    with pytest.raises(TrainingError, match=r"inside max_kl 1e-09 .*smallest was .* at step \d+ — raise watch\.max_kl"):
        monitor.finish(tiny_project)


def test_a_failure_mode_in_stop_on_ends_the_training_and_says_so(tiny_project: Path) -> None:
    settings = WatchSettings(samples=4, max_new_tokens=8, stop_on=["formatting"])
    trainer, monitor, rows = train_monitored(tiny_project, settings, epochs=20)
    assert trainer.state.global_step < trainer.state.max_steps
    assert monitor.finish(tiny_project).stopped_on == "formatting"  # random weights find every form strange
    assert rows[-1]["step"] == trainer.state.global_step
    assert any(row.get("watch/stopped") == "formatting" for row in rows)
    written = json.loads((tiny_project / "diagnosis.json").read_text())
    assert "formatting" in [finding["rule"] for finding in written["findings"]]


def test_a_failure_mode_that_is_not_in_stop_on_is_only_named(tiny_project: Path) -> None:
    trainer, monitor, rows = train_monitored(tiny_project, WatchSettings(samples=4, max_new_tokens=8))
    assert trainer.state.global_step == trainer.state.max_steps
    assert monitor.finish(tiny_project).stopped_on is None
    assert any("formatting" in row.get("watch/diagnosis", "") for row in rows)


def test_decisions_need_validation_pairs(tiny_project: Path) -> None:
    trainer, context = monitored_trainer(tiny_project)
    trainer.eval_dataset = None
    with pytest.raises(TrainingError, match=r"watch\.keep: needs validation pairs"):
        monitor_of(trainer, context, WatchSettings(keep="best"))


def test_the_loss_on_general_rows_is_logged_from_the_reference_on(tiny_project: Path) -> None:
    file = tiny_project / "general.jsonl"
    file.write_text('{"prompt": "the disk", "answer": "is full"}\n' * 3)
    trainer, context = monitored_trainer(tiny_project, learning_rate=0.3)
    rows = read_retention_set(file, trainer.processing_class, 64)
    prompt, answer = rows[0]
    assert answer[-1] == trainer.processing_class.eos_token_id
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    expected = float(torch.nn.functional.cross_entropy(logits.float(), torch.tensor(answer)))
    settings = WatchSettings(samples=4, max_new_tokens=8, keep="best")
    hf_trainer.train(trainer, context, "test", monitor_of(trainer, context, settings, retention=rows))
    log: list[dict[str, Any]] = read_metrics(context.out / METRICS)
    start = next(row["watch/general_loss_start"] for row in log if "watch/general_loss_start" in row)
    later = [row["watch/general_loss"] for row in log if "watch/general_loss" in row]
    assert start == pytest.approx(expected, abs=1e-4)
    assert max(abs(value - start) for value in later) > 1e-3


class _Killed(TrainerCallback):
    """Dies at a step, before its checkpoint."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


def curve(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What does not depend on the clock."""
    timed = ("tokens_per_second", "seconds", "share", "runtime", "per_second", "total_flos", "train_loss")
    return [
        tuple(sorted((k, json.dumps(v)) for k, v in row.items() if not any(word in k for word in timed)))
        for row in rows
        if "train_runtime" not in row and not set(row) <= {"step", "epoch", "watch/seconds", "watch/share"}
    ]


def test_a_killed_training_has_the_curve_and_the_best_weights_of_an_undisturbed_one(tiny_project: Path) -> None:
    settings = WatchSettings(samples=4, max_new_tokens=8, keep="best")
    whole, monitor, rows = train_monitored(tiny_project, settings, epochs=3)
    expected_rows, outcome = curve(rows), monitor.finish(tiny_project)
    expected = trained(whole)

    trainer, context = monitored_trainer(tiny_project, epochs=3)
    trainer.add_callback(_Killed(5))
    with pytest.raises(KeyboardInterrupt):
        hf_trainer.train(trainer, context, "test", monitor_of(trainer, context, settings))
    again, _ = monitored_trainer(tiny_project, epochs=3, keep_folder=True)
    second = monitor_of(again, context, settings)
    hf_trainer.train(again, context, "test", second)
    assert curve(read_metrics(context.out / METRICS)) == expected_rows
    assert second.finish(tiny_project) == outcome
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained(again).items())


def test_without_validation_pairs_the_end_is_diagnosed_and_shown(tiny_project: Path) -> None:
    trainer, context = monitored_trainer(tiny_project, validation=0)
    monitor = monitor_of(trainer, context, WatchSettings())
    hf_trainer.train(trainer, context, "test", monitor)
    rows: list[dict[str, Any]] = read_metrics(context.out / METRICS)
    assert "formatting" in [row["watch/diagnosis"] for row in rows if "watch/diagnosis" in row][-1]
    monitor.finish(context.out)
    written = json.loads((context.out / "diagnosis.json").read_text())
    assert written["findings"][0]["rule"] == "formatting"
    assert "formatting" in written["sentence"]


def test_advice_in_stop_on_ends_the_training_too(tiny_project: Path) -> None:
    limits = Thresholds(late=0.0, small_kl=1e6, small_gap=1e6, loss_fall=1e-9, reference_nats=1e6, prompt_gain=0.0)
    settings = WatchSettings(samples=4, max_new_tokens=8, stop_on=["too_conservative"], thresholds=limits)
    trainer, monitor, _ = train_monitored(tiny_project, settings, epochs=20, learning_rate=5e-3)
    assert trainer.state.global_step < trainer.state.max_steps
    assert monitor.finish(tiny_project).stopped_on == "too_conservative"


def test_a_loss_that_is_not_a_number_is_diagnosed_before_the_training_breaks_off(tiny_project: Path) -> None:
    trainer, context = monitored_trainer(tiny_project, learning_rate=1e30, max_grad_norm=1e30, warmup=0, epochs=8)
    with pytest.raises(TrainingError, match="not_a_number: the loss or its gradient"):
        hf_trainer.train(trainer, context, "test", monitor_of(trainer, context, WatchSettings()))
    written = json.loads((context.out / "diagnosis.json").read_text())
    assert written["findings"][0]["rule"] == "not_a_number"
    assert read_metrics(context.out / METRICS)[-1]["grad_norm"] is None


@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_last_metrics_are_those_of_a_pass_that_was_made_and_of_one_made_again(
    tiny_project: Path, keep: Any
) -> None:
    settings = WatchSettings(samples=4, max_new_tokens=8, keep=keep, stop_on=["forgetting"])
    trainer, monitor, _ = train_monitored(tiny_project, settings, learning_rate=0.1)
    last_step = monitor.finish(tiny_project).kept_step or trainer.state.max_steps
    names = [("eval_loss", "loss"), ("eval_rewards/margins", "gap"), ("eval_rewards/accuracies", "accuracy")]
    known = hf_trainer.validation_metrics(trainer, names, trainer.passes[last_step])
    assert known == hf_trainer.validation_metrics(trainer, names)
