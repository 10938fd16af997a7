"""The `probe` section of the YAML. Imports no other room, so that reading the config stays fast."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from fairlead.config.base import (
    Count,
    CountOrZero,
    Distinct,
    FilePath,
    Fraction,
    Integer,
    NotInKey,
    NotNegative,
    Number,
    Section,
)
from fairlead.config.checks import CheckSettings
from fairlead.config.judges import JudgeSettings
from fairlead.config.values.arms import Arm
from fairlead.config.values.criteria import Criteria

PairName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+_vs_[a-z0-9-]+$")]


class ProbeSettings(Section):
    """What the training changed besides the task: forgetting, drift and the implicit reward."""

    texts: FilePath | None = Field(
        None, description="plain text of another kind than the task; its perplexity shows forgetting"
    )
    task: FilePath | None = Field(None, description="rows {prompt, gold?} of a general task, answered before and after")
    task_checks: list[CheckSettings] = Field([], description="checks on the general task's answers")
    max_texts_tokens: Count = Field(20_000, description="tokens of texts that are read")
    kl_prompts: CountOrZero = Field(
        64, description="eval prompts on which the KL from the reference is sampled; 0 measures none"
    )
    max_new_tokens: Count = Field(128, description="longest answer to the general task and of the KL's samples")
    max_length: Annotated[Integer, Field(ge=2)] = Field(1024, description="tokens of prompt and answer together")
    batch_size: Annotated[Count, NotInKey] = Field(16, description="rows computed at once")

    @model_validator(mode="after")
    def _task_is_checked(self) -> Self:
        if bool(self.task) != bool(self.task_checks):
            raise ValueError("probe.task and probe.task_checks belong together: give both or neither")
        names = [check.name for check in self.task_checks]
        if len(set(names)) < len(names):
            raise ValueError("probe.task_checks has two checks of one name")
        return self


class AnswersSection(Section):
    """How base, SFT and DPO answer the held-out prompts."""

    temperature: NotNegative = Field(0.0, description="0 answers greedily")
    top_p: Annotated[Number, Field(gt=0, le=1)] = Field(1.0, description="nucleus; 1 keeps the whole distribution")
    max_new_tokens: Count = Field(256, description="longest answer, in tokens")
    per_prompt: Count = Field(
        1, description="answers to every held-out prompt, one cluster; several need a temperature above 0"
    )
    batch_size: Annotated[Count, NotInKey] = Field(
        32, description="answers generated at once; also the size of a resumable chunk"
    )

    @model_validator(mode="after")
    def _draws_differ(self) -> Self:
        if self.per_prompt > 1 and not self.temperature:
            raise ValueError(
                "per_prompt above 1 needs a temperature above 0: greedy answers to one prompt are all the same"
            )
        return self


class EvalSection(Section):
    """How the answers are measured and compared."""

    metrics: list[CheckSettings] = Field([], description="checks on every answer, each a row of the table")
    judge: JudgeSettings | None = Field(
        None, description="judge of the comparison; the judge of the pairs if not given"
    )
    arms: Annotated[list[Arm], Distinct] | None = Field(
        None,
        description="what answers the held-out prompts besides base, SFT and DPO: prompted, the decision's best "
        "prompt; {name, model, adapter?}; {release}; {name, endpoint, system?}. If not given, prompted where the "
        "decision is measured",
    )
    pairwise: Annotated[list[PairName], Distinct] | None = Field(
        None,
        description="which arms are judged against each other, such as dpo_vs_sft; if not given, dpo_vs_sft, "
        "sft_vs_base, dpo_vs_base, and DPO over every other arm",
    )
    human: FilePath | None = Field(
        None,
        description="labels of people on the compared answers, as `fairlead review` writes them: rows {prompt, first, "
        "second, human, by}; the judge's win rates are corrected by them",
    )
    slices: str | None = Field(
        None,
        min_length=1,
        description="a field of gold, or cluster, by whose values the comparison is also made slice by slice",
    )
    scores: bool = Field(False, description="also ask the judge for a score from 1 to 10 for every answer")
    criteria: Criteria = Field(
        [],
        description="criteria that the judge scores every answer by, each a row of the table: built-in names, or "
        "{name, text, source}; see docs/judges.md",
    )
    max_missing: Fraction = Field(0.1, description="share of judgements without a verdict above which the stage fails")

    @property
    def asks_judge(self) -> bool:
        """Whether a judge is asked for anything; without a list of pairs it is, for the default ones."""
        return self.pairwise is None or bool(self.pairwise or self.scores or self.criteria)

    @property
    def needs_source(self) -> bool:
        """Whether a criterion is about the source text of the eval rows."""
        return any(criterion.source for criterion in self.criteria)
