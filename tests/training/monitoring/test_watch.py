"""Watching acts: it stops on an illness, keeps the best weights inside the bound, and survives a kill."""

from __future__ import annotations

import io
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fairlead.config.model import ModelSection
from fairlead.config.monitoring import Thresholds, WatchSettings
from fairlead.errors import DataError, TrainingError
from fairlead.models.loading import load_tokenizer
from fairlead.progress import Bars, Lines
from fairlead.report.stage import watch_markdown
from fairlead.training import hf_trainer
from fairlead.training.dpo_trainer.label_noise_trainer import ERROR, WEIGHT, with_noise
from fairlead.training.monitoring.checkpointing import Watch, attach
from fairlead.training.monitoring.dashboard import TrainingView, plot
from fairlead.training.monitoring.retention_set import read_general
from tests.support.watched import watched_trainer


def train(
    folder: Path, settings: WatchSettings, *callbacks: TrainerCallback, **dpo: Any
) -> tuple[Any, Watch, list[dict[str, Any]]]:
    trainer, context = watched_trainer(folder, **dpo)
    watch = attach(trainer, settings, context.out / hf_trainer.METRICS, context.out / hf_trainer.CHECKPOINTS)
    for callback in callbacks:
        trainer.add_callback(callback)
    hf_trainer.train(trainer, context, "test")
    return trainer, watch, hf_trainer.read_metrics(context.out / hf_trainer.METRICS)


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
    trainer, watch, rows = train(tiny_project, settings, Snapshots(), learning_rate=0.5, epochs=4)
    figures = watch.finish(tiny_project)
    gaps = {row["step"]: row["eval_rewards/margins"] for row in rows if "eval_loss" in row}
    assert figures["kept_step"] == max(gaps, key=lambda step: gaps[step])
    assert figures["kept_gap"] == max(gaps.values())
    for name, tensor in trained(trainer).items():
        assert torch.equal(tensor, seen[figures["kept_step"]][name])


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
    _, watch, rows = train(tiny_project, settings, Away())
    assert min(row["watch/kl"] for row in rows if "watch/kl" in row) > 1
    with pytest.raises(TrainingError, match=r"inside max_kl 1e-09 .*smallest was .* at step \d+ — raise watch\.max_kl"):
        watch.finish(tiny_project)


def test_an_illness_in_stop_on_ends_the_training_and_says_so(tiny_project: Path) -> None:
    settings = WatchSettings(samples=4, max_new_tokens=8, stop_on=["formatting"])
    trainer, watch, rows = train(tiny_project, settings, epochs=20)
    assert trainer.state.global_step < trainer.state.max_steps
    assert watch.finish(tiny_project)["stopped_on"] == "formatting"  # random weights find every form strange
    assert rows[-1]["step"] == trainer.state.global_step
    assert any(row.get("watch/stopped") == "formatting" for row in rows)
    written = json.loads((tiny_project / "diagnosis.json").read_text())
    assert "formatting" in [finding["rule"] for finding in written["findings"]]


def test_an_illness_that_is_not_in_stop_on_is_only_named(tiny_project: Path) -> None:
    trainer, watch, rows = train(tiny_project, WatchSettings(samples=4, max_new_tokens=8))
    assert trainer.state.global_step == trainer.state.max_steps
    assert watch.finish(tiny_project)["stopped_on"] is None
    assert any("formatting" in row.get("watch/diagnosis", "") for row in rows)


def test_decisions_need_validation_pairs(tiny_project: Path) -> None:
    trainer, context = watched_trainer(tiny_project)
    trainer.eval_dataset = None
    with pytest.raises(TrainingError, match=r"watch\.keep: needs validation pairs"):
        attach(trainer, WatchSettings(keep="best"), context.out / hf_trainer.METRICS, context.out)


def test_the_loss_on_general_rows_is_logged_from_the_reference_on(tiny_project: Path) -> None:
    file = tiny_project / "general.jsonl"
    file.write_text('{"prompt": "the disk", "answer": "is full"}\n' * 3)
    trainer, context = watched_trainer(tiny_project, learning_rate=0.3)
    general = read_general(file, trainer.processing_class, 64)
    prompt, answer = general[0]
    assert answer[-1] == trainer.processing_class.eos_token_id
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    expected = float(torch.nn.functional.cross_entropy(logits.float(), torch.tensor(answer)))
    settings = WatchSettings(samples=4, max_new_tokens=8, keep="best")
    attach(trainer, settings, context.out / hf_trainer.METRICS, context.out / hf_trainer.CHECKPOINTS, general=general)
    hf_trainer.train(trainer, context, "test")
    rows = hf_trainer.read_metrics(context.out / hf_trainer.METRICS)
    start = next(row["watch/general_loss_start"] for row in rows if "watch/general_loss_start" in row)
    later = [row["watch/general_loss"] for row in rows if "watch/general_loss" in row]
    assert start == pytest.approx(expected, abs=1e-4)
    assert abs(later[-1] - start) > 1e-3


@pytest.mark.parametrize("text", ['{"prompt": "a"}', '["a"]', '{"prompt": 1, "answer": "b"}'])
def test_a_general_row_of_another_form_is_named(tmp_path: Path, tiny_model: Path, text: str) -> None:
    tokenizer = load_tokenizer(ModelSection(name=str(tiny_model)), tmp_path)
    (tmp_path / "general.jsonl").write_text(f'{{"prompt": "a", "answer": "b"}}\n{text}\n')
    with pytest.raises(DataError, match=r"general\.jsonl:2: a row"):
        read_general(tmp_path / "general.jsonl", tokenizer, 64)
    (tmp_path / "general.jsonl").write_text("")
    with pytest.raises(DataError, match="has no row that can be used"):
        read_general(tmp_path / "general.jsonl", tokenizer, 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_kl": 1.0}, "max_kl is read only with keep: best"),
        ({"max_kl": 1.0, "keep": "best", "samples": 0}, "max_kl needs samples"),
        ({"samples": 0, "max_new_tokens": 8}, "read by nothing"),
        ({"stop_on": ["boredom"]}, "stop_on"),
        ({"thresholds": {"small_kll": 1}}, "small_kll"),
        ({"cost": 1.5}, "cost"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WatchSettings.model_validate(settings)


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
    whole, watch, rows = train(tiny_project, settings, epochs=3)
    expected, expected_rows, figures = trained(whole), curve(rows), watch.finish(tiny_project)
    expected = trained(whole)

    trainer, context = watched_trainer(tiny_project, epochs=3)
    attach(trainer, settings, context.out / hf_trainer.METRICS, context.out / hf_trainer.CHECKPOINTS)
    trainer.add_callback(_Killed(5))
    with pytest.raises(KeyboardInterrupt):
        hf_trainer.train(trainer, context, "test")
    again, _ = watched_trainer(tiny_project, epochs=3, keep_folder=True)
    second = attach(again, settings, context.out / hf_trainer.METRICS, context.out / hf_trainer.CHECKPOINTS)
    hf_trainer.train(again, context, "test")
    assert curve(hf_trainer.read_metrics(context.out / hf_trainer.METRICS)) == expected_rows
    assert second.finish(tiny_project) == figures
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained(again).items())


def test_pairs_that_weigh_nothing_teach_nothing(tiny_project: Path) -> None:
    """Weights reach the loss: all weight on pairs with a coin flip's label moves the policy hardly at all."""

    def gap(error: float, weight: float) -> float:
        trainer, context = watched_trainer(tiny_project, learning_rate=5e-3)
        rows = trainer.train_dataset
        trainer.train_dataset = with_noise(rows, [error] * len(rows), [weight] * len(rows))
        assert {ERROR, WEIGHT} <= set(trainer.data_collator([trainer.train_dataset[0]]))
        hf_trainer.train(trainer, context, "test")
        return abs(trainer.evaluate()["eval_rewards/margins"])

    assert gap(0.0, 0.0) < 1e-6
    assert gap(0.0, 1.0) > 1e-3


def test_without_error_the_weighted_loss_is_trls(tiny_project: Path) -> None:
    trainer, _ = watched_trainer(tiny_project)
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in range(4)]))
    trainer.model.train()
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        for name, p in trainer.model.named_parameters():
            if "lora_B.default" in name:
                p.normal_(std=0.02)
    plain = trainer._compute_loss(trainer.model, batch, False)
    ours = trainer._compute_loss(trainer.model, {**batch, ERROR: torch.zeros(4), WEIGHT: torch.ones(4)}, False)
    torch.testing.assert_close(ours, plain)


def test_a_plot_fills_from_the_foot_and_keeps_its_size() -> None:
    assert plot([], 4, 2) == ["    ", "    "]
    assert plot([0, 1, 2], 3, 1) == [" ▄█"]
    assert plot([0, 2], 2, 2) == [" █", " █"]
    assert plot([-1, 0], 2, 1) == [" █"]
    assert [len(line) for line in plot(list(range(100)), 10, 3)] == [10, 10, 10]
    assert plot([3, 3], 4, 1) == ["  ██"]


def seen_by(progress: Any, terminal: io.StringIO, pause: float = 0.0) -> str:
    view = TrainingView(progress, clock=iter(float(n) for n in range(99)).__next__)
    state, control = TrainerState(max_steps=20), TrainerControl()
    args: Any = None
    view.on_train_begin(args, state, control)
    for step in (5, 10, 20):
        state.global_step = step
        view.on_log(args, state, control, {"loss": 0.6, "rewards/margins": step / 10})
        view.on_log(args, state, control, {"eval_loss": 0.6, "eval_rewards/margins": step / 20})
        view.on_log(args, state, control, {"watch/kl": step / 4, "watch/kl_error": 0.5})
        view.on_log(args, state, control, {"watch/diagnosis": "no alarm", "watch/share": 0.05, "watch/seconds": 1.0})
    time.sleep(pause)
    view.on_train_end(args, state, control)
    return terminal.getvalue()


def test_without_a_terminal_each_validation_is_one_line_and_the_cost_is_told() -> None:
    stream = io.StringIO()
    text = seen_by(Lines(Console(file=stream, width=200)), stream)
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0].startswith("step 5/20, loss 0.6, gap 0.5, validation gap 0.25, KL 1.25 ± 0.5")
    assert lines[0].endswith("no alarm")
    assert lines[-1] == "watching took 1.0 s, 5.0% of the training"
    assert len(lines) == 5
    assert "\x1b" not in text


def test_in_a_terminal_three_curves_are_drawn() -> None:
    stream = io.StringIO()
    text = seen_by(Bars(Console(file=stream, width=100, force_terminal=True)), stream)
    for title in ("reward gap 2", "KL, nats per answer 5", "validation gap 1", "s left", "no alarm"):
        assert title in text
    assert "█" in text


def test_in_a_terminal_the_curves_stand_beside_the_bar_of_the_run() -> None:
    """The stage's own bar is live already when the view begins."""
    stream = io.StringIO()
    bars = Bars(Console(file=stream, width=100, force_terminal=True))
    with bars.task("dpo", "preferences", 20) as bar:
        bar.update(3)
        text = seen_by(bars, stream, pause=0.5)  # the outer display draws both, ten times a second
    assert "reward gap 2" in text
    assert "preferences" in text


def test_without_validation_pairs_the_end_is_diagnosed_and_shown(tiny_project: Path) -> None:
    trainer, context = watched_trainer(tiny_project, validation=0)
    watch = attach(trainer, WatchSettings(), context.out / hf_trainer.METRICS, context.out / hf_trainer.CHECKPOINTS)
    hf_trainer.train(trainer, context, "test")
    rows = hf_trainer.read_metrics(context.out / hf_trainer.METRICS)
    assert "formatting" in [row["watch/diagnosis"] for row in rows if "watch/diagnosis" in row][-1]
    watch.findings = []
    watch.finish(context.out)
    written = json.loads((context.out / "diagnosis.json").read_text())
    assert written["findings"][0]["rule"] == "formatting"
    assert "formatting" in written["sentence"]


def test_advice_in_stop_on_ends_the_training_too(tiny_project: Path) -> None:
    limits = Thresholds(late=0.0, small_kl=1e6, small_gap=1e6, loss_fall=1e-9, reference_nats=1e6, prompt_gain=0.0)
    settings = WatchSettings(samples=4, max_new_tokens=8, stop_on=["too_conservative"], thresholds=limits)
    trainer, watch, _ = train(tiny_project, settings, epochs=20, learning_rate=5e-3)
    assert trainer.state.global_step < trainer.state.max_steps
    assert watch.finish(tiny_project)["stopped_on"] == "too_conservative"


def test_a_loss_that_is_not_a_number_is_diagnosed_before_the_training_breaks_off(tiny_project: Path) -> None:
    trainer, context = watched_trainer(tiny_project, learning_rate=1e30, max_grad_norm=1e30, warmup=0, epochs=8)
    attach(trainer, WatchSettings(), context.out / hf_trainer.METRICS, context.out / hf_trainer.CHECKPOINTS)
    with pytest.raises(TrainingError, match="not_a_number: the loss or its gradient"):
        hf_trainer.train(trainer, context, "test")
    written = json.loads((context.out / "diagnosis.json").read_text())
    assert written["findings"][0]["rule"] == "not_a_number"
    assert hf_trainer.read_metrics(context.out / hf_trainer.METRICS)[-1]["grad_norm"] is None


@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_last_figures_are_those_of_a_pass_that_was_made_and_of_one_made_again(
    tiny_project: Path, keep: Any
) -> None:
    settings = WatchSettings(samples=4, max_new_tokens=8, keep=keep, stop_on=["forgetting"])
    trainer, watch, _ = train(tiny_project, settings, learning_rate=0.1)
    kept = watch.finish(tiny_project)["kept_step"] or trainer.state.max_steps
    names = [("eval_loss", "loss"), ("eval_rewards/margins", "gap"), ("eval_rewards/accuracies", "accuracy")]
    known = hf_trainer.evaluation_figures(trainer, names, trainer.passes[kept])
    assert known == hf_trainer.evaluation_figures(trainer, names)


def test_the_report_says_what_the_watch_did_and_nothing_where_it_only_looked_on() -> None:
    seen = {"sentence": "overfitting: the gap fell", "share": 0.061}
    acted = {"steps": 75, "stopped_on": "overfitting", "kept_step": 50, "kept_gap": 1.234, "kept_kl": 2.5}
    assert watch_markdown(seen, acted) == (
        "Diagnosis: overfitting: the gap fell. Watching took 6.1% of the training's time. The watch stopped at step "
        "75 on overfitting; kept step 50, validation gap 1.23, KL 2.5 nats per answer."
    )
    none = {"steps": 75, "stopped_on": None, "kept_step": None, "kept_gap": None, "kept_kl": None}
    assert "The watch" not in watch_markdown(seen, none)
    assert "KL not measured" in watch_markdown(seen, {**acted, "kept_kl": None})


def test_a_tracker_of_numbers_is_given_numbers_and_one_of_texts_texts_too() -> None:
    given: dict[str, Any] = {}

    class MLflowCallback(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            given[type(self).__name__] = logs

    class WandbCallback(MLflowCallback):
        pass

    none: Any = None
    for tracker in (MLflowCallback(), WandbCallback()):
        hf_trainer._give_what_it_takes(tracker)
        tracker.on_log(none, none, none, logs={"loss": 0.5, "watch/sample": "text", "run/chosen_longer": None})
    assert given["MLflowCallback"] == {"loss": 0.5}
    assert given["WandbCallback"] == {"loss": 0.5, "watch/sample": "text"}


def test_tensorboard_gets_figures_and_texts_and_has_nothing_to_complain_of(tiny_project: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    complaints: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        trainer, _, _ = train(
            tiny_project, WatchSettings(samples=4, max_new_tokens=8, keep="best"), report_to=["tensorboard"]
        )
    finally:
        logger.removeHandler(handler)
    assert not [line for line in complaints if "Trainer is attempting to log" in line]
    (events,) = Path(trainer.args.output_dir).rglob("events.out.*")
    found = EventAccumulator(str(events)).Reload().Tags()
    assert {"train/watch/kl", "train/tokens_per_second"} <= set(found["scalars"])
    assert any("watch/sample" in tag for tag in found["tensors"])
