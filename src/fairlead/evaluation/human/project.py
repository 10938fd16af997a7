"""The review of a project's answers: what its stages made, its labels, and what they say so far."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fairlead.documents.evaluation import HumanFigures
from fairlead.errors import ConfigError
from fairlead.evaluation.human.anchoring import figures_of_people, plan_of_labels
from fairlead.evaluation.human.review import Review
from fairlead.pipeline import outputs as files
from fairlead.pipeline.project import Project
from fairlead.records import Comparison, ModelPair, Verdict

DEFAULT_LABELS = "human.jsonl"


@dataclass(frozen=True)
class LabelledPair:
    """A review with the judge's verdicts on the same comparisons.

    Attributes:
        path: the file of labels.
        configured: whether `eval.human` names that file.
        configured_as: what `eval.human` would have to say.
    """

    review: Review
    comparisons: list[Comparison]
    verdicts: list[Verdict]
    clusters: list[str]
    path: Path
    configured: bool
    configured_as: str

    def figures(self) -> HumanFigures | None:
        """What people say so far; None without a label of these answers."""
        return figures_of_people(self.comparisons, self.verdicts, self.review.labels, self.clusters)

    @property
    def plan(self) -> str:
        """How many labels are worth making."""
        different = sum(comparison.first != comparison.second for comparison in self.comparisons)
        return plan_of_labels(self.figures(), different)


def labelled_pair(project: Project, pair: ModelPair, by: str, labels: Path | None = None) -> LabelledPair:
    """The review of a pair whose answers the project has compared.

    Args:
        by: the reviewer.
        labels: file of labels; `eval.human` if not given, else `human.jsonl` in the project.

    Raises:
        ArtifactError: if the answers or the comparison have not been made.
        ConfigError: if the project lacks one of the models, or its judge was not asked about the pair.
        DataError: if the file of labels cannot be read.
    """
    configured = project.config.eval.human
    path = labels or project.folder / (configured or DEFAULT_LABELS)
    of_arms = project.answers()
    held_out = files.EVAL_PROMPTS.read(project.artifact("prepare").file(files.EVAL_PROMPTS.name))
    prompts = files.answered_prompts(held_out, of_arms)
    texts = {arm: [answer.text for answer in answers] for arm, answers in of_arms.items()}
    absent = [model for model in (pair.candidate, pair.reference) if model not in texts]
    if absent:
        raise ConfigError(
            f"the project has no answers of {absent[0]}", where="--pair", remedy=f"it has those of {', '.join(texts)}"
        )
    both = zip(prompts, texts[pair.candidate], texts[pair.reference], strict=True)
    comparisons = [Comparison(prompt, first, second) for prompt, first, second in both]
    # New labels make the comparison stale, but not the verdicts in it: they belong to the answers.
    judged = files.EVAL_VERDICTS.read(project.last("eval").file(files.EVAL_VERDICTS.name))
    unjudged = [comparison for comparison in comparisons if comparison.id not in judged]
    if unjudged:
        raise ConfigError(
            f"{len(unjudged)} of {len(comparisons)} answers of {pair.title} have not been judged",
            where=str(project.folder),
            remedy=f"judge them, with {pair} in eval.pairwise: fairlead eval -C {project.folder}",
        )
    here = path.resolve()
    return LabelledPair(
        review=Review(comparisons, path, by),
        comparisons=comparisons,
        verdicts=[judged[comparison.id] for comparison in comparisons],
        clusters=[prompt.cluster or prompt.id for prompt in prompts],
        path=path,
        configured=configured is not None and here == (project.folder / configured).resolve(),
        configured_as=os.path.relpath(here, project.folder.resolve()),
    )
