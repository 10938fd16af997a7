"""Makes the failure modes that the diagnosis must name, on the demo task: one SFT model, many short DPO trainings."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fairlead import Project
from fairlead.checks import build_check
from fairlead.config.judges import RubricSettings
from fairlead.config.monitoring import WatchSettings
from fairlead.config.stage_settings import DpoSettings
from fairlead.config.training import DpoSection
from fairlead.errors import TrainingError
from fairlead.models.adapters import dpo_start, variants_of
from fairlead.models.chat import prompt_tokens
from fairlead.pipeline import datasets
from fairlead.pipeline.stage import Context
from fairlead.records import Preference, Prompt
from fairlead.training import dpo, hf_trainer
from fairlead.training.dpo_trainer.label_error import estimate_label_error
from fairlead.training.dpo_trainer.label_noise import apply_label_noise
from fairlead.training.measurements import METRICS, read_metrics
from fairlead.training.monitoring.monitor import TrainingMonitor
from fairlead.training.monitoring.policy_samples import PolicySamples

SCRAMBLED = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}"
    "{% else %}{{ message['content'][::-1] + ' <|end|> #' }}{% endif %}{% endfor %}"
)
HEALTHY: dict[str, Any] = {
    "beta": 0.1,
    "loss_type": ["sigmoid", "sft"],  # without the SFT term the score of samples falls below that of the SFT model
    "learning_rate": 1e-3,
    "epochs": 4,
    "batch_size": 8,
    "max_length": 320,
    "log_every": 1,
    "eval_every": 18,
    "save_every": 1000,
}
PAIRS, VALIDATION = 216, 64
LONGEST = 48  # tokens of a sample


@dataclass(frozen=True)
class Case:
    """One way to train.

    Attributes:
        settings: what differs from a healthy `dpo` section.
        change: what is done to the pairs, training and validation alike.
        pairs: of how many the training learns.
        template: chat template that the training uses, None for the model's own.
        well_formed: whether the pairs are only those whose answers both have the wanted form.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    change: Callable[[list[Preference], random.Random], list[Preference]] = lambda pairs, _rng: pairs
    pairs: int = PAIRS
    template: str | None = None
    well_formed: bool = True


def flipped(pairs: list[Preference], rng: random.Random, share: float = 0.4) -> list[Preference]:
    """A share of the labels the wrong way round."""
    wrong = set(rng.sample(range(len(pairs)), round(share * len(pairs))))
    return [
        replace(pair, chosen=pair.rejected, rejected=pair.chosen) if n in wrong else pair
        for n, pair in enumerate(pairs)
    ]


def longer_chosen(pairs: list[Preference], rng: random.Random) -> list[Preference]:
    """Length is all that is preferred: both answers are those of the model, one of them goes on."""
    more = (" please look at the report", " and keep watching it", " then tell the team", " as said above")
    made = []
    for pair in pairs:
        text = rng.choice((pair.chosen, pair.rejected))
        made.append(replace(pair, chosen=text + "".join(rng.sample(more, 2)), rejected=text))
    return made


CASES = (
    Case("healthy"),
    Case("lr x100", {"learning_rate": 100 * HEALTHY["learning_rate"]}),
    Case("beta 1.0", {"beta": 1.0}),
    # The SFT term would hold the policy in β's place.
    Case("beta 0.001", {"beta": 0.001, "loss_type": ["sigmoid"]}),
    Case("20 epochs, 60 pairs", {"epochs": 20}, pairs=60),
    Case("40 % flipped", {}, flipped),
    Case("longer chosen", {}, longer_chosen),
    Case("scrambled template", {}, template=SCRAMBLED),
)


class Lab:
    """One project whose base, SFT model and pairs all trainings share.

    Args:
        well_formed: whether to leave out pairs with an answer that misses the format.
    """

    def __init__(self, project: Path, scratch: Path, *, well_formed: bool = True) -> None:
        self.project = Project(project)
        self.made = self.project.run("pairs")
        self.scratch = scratch
        every = datasets.preferences(self.made["pairs"].file("train.jsonl"))
        every += datasets.preferences(self.made["pairs"].file("validation.jsonl"))
        # In nine of ten of the others the longer answer is the better one, which is a failure mode of its own.
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
        validation = case.change(drawn[:VALIDATION], rng)
        return case.change(drawn[VALIDATION : VALIDATION + case.pairs], rng), validation

    def trainer(self, case: Case, seed: int, **more: Any) -> tuple[Any, Context[DpoSettings]]:
        """The trainer of a case on pairs that the seed draws, as the `dpo` stage builds it."""
        train, validation = self.pairs_of(case, seed)
        section = DpoSection.model_validate({**HEALTHY, **case.settings, **more})
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
        """Of one answer to each prompt at temperature 1: its score, and its log-ratio to the reference."""
        tokens = [prompt_tokens(prompt, trainer.processing_class) for prompt in prompts]
        policy = PolicySamples(trainer, tokens, LONGEST)
        answers = policy.draw(len(tokens))
        ratios = [
            float((ours - theirs).sum())
            for ours, theirs in zip(
                policy.log_probs(tokens, answers), policy.reference_log_probs(tokens, answers), strict=True
            )
        ]
        return self.scores(prompts, [policy.text(answer) for answer in answers]), ratios

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


def train_and_read(lab: Lab, case: Case, seed: int, watch: WatchSettings, **more: Any) -> list[dict[str, Any]]:
    """Trains a case and returns the rows of its `metrics.jsonl`; a training that breaks off leaves those it has."""
    trainer, context = lab.trainer(case, seed, **more)
    monitor = TrainingMonitor(trainer, watch, context.out / hf_trainer.CHECKPOINTS, always=True)
    with contextlib.suppress(TrainingError):  # the rows up to the break are what the diagnosis reads
        hf_trainer.train(trainer, context, case.name, monitor)
    return read_metrics(context.out / METRICS)


# The loss that knows the noise has no SFT term.
NOISY = (
    Case("216 well-formed pairs, 4 epochs", {"loss_type": ["sigmoid"]}, flipped),
    Case(
        "640 pairs, 2 epochs",
        {"loss_type": ["sigmoid"], "learning_rate": 5e-4, "epochs": 2},
        flipped,
        640,
        well_formed=False,
    ),
)
CHECKED, HELD_OUT = 60, 200  # pairs on which the judge is checked, prompts on which samples are scored


def label_noise_run(
    lab: Lab, case: Case, seed: int, *, measured_noise: bool
) -> tuple[list[float], list[float], list[str], dict[str, float]]:
    """Trains on noisy pairs and scores samples on held-out prompts by the task's rubric.

    Args:
        told: whether the loss knows the noise, as measured on 60 pairs whose right label is known.

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
        margins = [pair.margin for pair in pairs[VALIDATION : VALIDATION + case.pairs]]
        known = apply_label_noise(trainer, measured, margins)
    hf_trainer.train(trainer, context, case.name)
    held_out = datasets.prompts(lab.made["prepare"].file("eval.jsonl"))[:HELD_OUT]
    scores, _ = lab.sampled(trainer, held_out)
    return scores, lab.ranked(trainer, pairs[:VALIDATION]), [prompt.id for prompt in held_out], known
