"""Makes the failure modes that the diagnosis must name, on the demo task: one SFT model, many short DPO trainings.

The model is the demo's own small one, or a pretrained one; a `Scale` holds what differs between them.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import OUT
from benchmarks.diagnosis.cases import PRETRAINED, SMALL, Case, Scale
from fairlead import Project
from fairlead.checks import build_check
from fairlead.config.judges import RubricSettings
from fairlead.config.project import load_config
from fairlead.config.stage_settings import DpoSettings
from fairlead.config.training import DpoSection
from fairlead.demo.project import make_project
from fairlead.errors import TrainingError
from fairlead.models.adapters import dpo_start, variants_of
from fairlead.models.chat import prompt_tokens
from fairlead.pipeline import datasets
from fairlead.pipeline.stage import Context
from fairlead.progress import Lines
from fairlead.records import Preference, Prompt
from fairlead.training import dpo, hf_trainer
from fairlead.training.dpo_trainer.label_error import estimate_label_error
from fairlead.training.dpo_trainer.label_noise import apply_label_noise
from fairlead.training.measurements import METRICS, read_metrics
from fairlead.training.monitoring.monitor import TrainingMonitor
from fairlead.training.monitoring.policy_samples import PolicySamples

LONGEST = 48  # tokens of a sample
CHECKED, HELD_OUT = 60, 200  # pairs on which the judge is checked, prompts on which samples are scored


def lab_name(what: str, model: str | None) -> str:
    """The name of a lab's files; a pretrained model's own stands in it."""
    return what if model is None else f"{what}-{re.sub(r'[^A-Za-z0-9]+', '-', model).strip('-')[-40:]}"


def make_lab(model: str | None, folder: Path | None, *, well_formed: bool | None = None) -> Lab:
    """The lab of the demo's small model, or of the pretrained one that `model` names as `fairlead demo --model` does.

    Args:
        folder: of its project, None for the usual one.
        well_formed: whether to leave out pairs with an answer that misses the format; None asks the scale.
    """
    folder = folder or OUT / lab_name("diagnosis-project", model)
    make_project(folder, seed=0, progress=Lines(Console(stderr=True)), model=model)
    scale = SMALL if model is None else PRETRAINED
    well_formed = scale.well_formed if well_formed is None else well_formed
    return Lab(folder, OUT / lab_name("diagnosis-scratch", model), scale, well_formed=well_formed)


class Lab:
    """One project whose base, SFT model and pairs all trainings share.

    Args:
        scale: of the trainings.
        well_formed: whether to leave out pairs with an answer that misses the format.
    """

    def __init__(self, project: Path, scratch: Path, scale: Scale, *, well_formed: bool) -> None:
        config = load_config(project).model_copy(update=dict(scale.project))
        self.scale, self.project = scale, Project(project, config=config)
        self.made = self.project.run("pairs")
        self.scratch = scratch
        every = datasets.preferences(self.made["pairs"].file("train.jsonl"))
        every += datasets.preferences(self.made["pairs"].file("validation.jsonl"))
        self.pairs = [
            pair
            for pair in every
            if not well_formed or (self._well_formed(pair.chosen) and self._well_formed(pair.rejected))
        ]

    def _well_formed(self, answer: str) -> bool:
        settings = self.project.config.judge
        assert isinstance(settings, RubricSettings)
        check = next(check for check in settings.checks if check.name == "format")
        return build_check(check, self.project.folder)(answer, {}) == 1.0

    def pairs_of(self, case: Case, seed: int) -> tuple[list[Preference], list[Preference]]:
        """(training, validation) pairs of a case; which they are depends on the seed alone."""
        rng = random.Random(f"{case.name} {seed}")
        drawn = random.Random(seed).sample(self.pairs, len(self.pairs))
        held_out, pairs = self.scale.validation, case.pairs or self.scale.pairs
        if held_out + pairs > len(drawn):
            raise SystemExit(
                f"{case.name} needs {held_out + pairs} pairs and the project has {len(drawn)}: the model's answers to "
                "a prompt score too much alike; raise sample.temperatures or per_temperature in "
                "benchmarks/diagnosis/cases.py"
            )
        validation = case.change(drawn[:held_out], rng)
        return case.change(drawn[held_out : held_out + pairs], rng), validation

    def trainer(self, case: Case, seed: int) -> tuple[Any, Context[DpoSettings]]:
        """The trainer of a case on pairs that the seed draws, as the `dpo` stage builds it."""
        train, validation = self.pairs_of(case, seed)
        section = DpoSection.model_validate({**self.scale.healthy, **case.settings})
        model = self.project.config.model
        if case.template is not None:
            file = self.scratch / "template.jinja"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(case.template, encoding="utf-8")
            model = model.model_copy(update={"chat_template": str(file.resolve())})
        out = self.scratch / f"{case.name.replace(' ', '-')}-{seed}" / "dpo"
        shutil.rmtree(out.parent, ignore_errors=True)
        out.mkdir(parents=True)
        config = self.project.config.model_copy(update={"model": model, "dpo": section, "seed": seed})
        context = Project(self.project.folder, config=config).context("dpo", self.made, out)
        start = dpo_start(variants_of({"sft": self.made["sft"].file("model")}))
        return dpo.build_trainer(context, section, model, start, train, validation), context

    def scores(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """The rubric's weighted share of checks that each answer meets, from 0 to 1."""
        settings = self.project.config.judge
        assert isinstance(settings, RubricSettings)
        checks = [(build_check(check, self.project.folder), check.weight) for check in settings.checks]
        scores = []
        for prompt, answer in zip(prompts, answers, strict=True):
            values = [(check(answer, prompt.gold), weight) for check, weight in checks]
            present = [(value, weight) for value, weight in values if value is not None]
            scores.append(sum(v * w for v, w in present) / sum(w for _, w in present))
        return scores

    def sampled(self, trainer: Any, prompts: Sequence[Prompt]) -> tuple[list[float], list[float]]:
        """Of one answer to each prompt at temperature 1: its score, and its KL from the reference in nats."""
        tokens = [prompt_tokens(prompt, trainer.processing_class) for prompt in prompts]
        policy = PolicySamples(trainer, tokens, LONGEST)
        answers = policy.draw(len(tokens))
        kls = policy.kls(tokens, answers)
        return self.scores(prompts, [policy.text(answer) for answer in answers]), kls

    def ranked(self, trainer: Any, pairs: list[Preference]) -> list[float]:
        """Of each pair 1 where the policy's implicit reward of chosen is the greater, else 0."""
        prepared = trainer.tokenize_pairs(dpo.dataset(pairs), trainer.processing_class, trainer.args, "ranked")
        prompts = prepared["prompt_ids"]
        policy = PolicySamples(trainer, prompts, LONGEST)
        rewards = [
            [
                float((ours - theirs).sum())
                for ours, theirs in zip(
                    policy.log_probs(prompts, prepared[side]),
                    policy.reference_log_probs(prompts, prepared[side]),
                    strict=True,
                )
            ]
            for side in ("chosen_ids", "rejected_ids")
        ]
        return [float(chosen > rejected) for chosen, rejected in zip(*rewards, strict=True)]


def train_and_read(lab: Lab, case: Case, seed: int) -> list[dict[str, Any]]:
    """Trains a case and returns the rows of its `metrics.jsonl`; a training that breaks off leaves those it has."""
    trainer, context = lab.trainer(case, seed)
    monitor = TrainingMonitor(trainer, lab.scale.watch, context.out / hf_trainer.CHECKPOINTS, always=True)
    with contextlib.suppress(TrainingError):  # the rows up to the break are what the diagnosis reads
        hf_trainer.train(trainer, context, case.name, monitor)
    return read_metrics(context.out / METRICS)


def label_noise_run(
    lab: Lab, case: Case, seed: int, *, measured_noise: bool
) -> tuple[list[float], list[float], list[str], dict[str, float]]:
    """Trains on noisy pairs and scores samples on held-out prompts by the task's rubric.

    Args:
        measured_noise: whether the loss knows the noise, as measured on 60 pairs whose right label is known.

    Returns:
        Score of each held-out prompt's answer; of each validation pair with its right label whether it is ranked so;
        the prompts' ids; what the loss was told.
    """
    trainer, context = lab.trainer(case, seed)
    known: dict[str, float] = {}
    pairs = random.Random(seed).sample(lab.pairs, len(lab.pairs))
    if measured_noise:
        checked = pairs[-CHECKED:]
        noisy = case.change(checked, random.Random(f"checked {seed}"))
        correct = [a.chosen == b.chosen for a, b in zip(checked, noisy, strict=True)]
        measured = estimate_label_error(correct, [pair.margin for pair in checked])
        assert measured is not None
        held_out, count = lab.scale.validation, case.pairs or lab.scale.pairs
        margins = [pair.margin for pair in pairs[held_out : held_out + count]]
        known = apply_label_noise(trainer, measured, margins)
    hf_trainer.train(trainer, context, case.name)
    prompts = datasets.prompts(lab.made["prepare"].file("eval.jsonl"))[:HELD_OUT]
    scores, _ = lab.sampled(trainer, prompts)
    ranked = lab.ranked(trainer, pairs[: lab.scale.validation])
    return scores, ranked, [prompt.id for prompt in prompts], known
