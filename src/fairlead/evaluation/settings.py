"""The `probe` section of the YAML. Knows nobody but the checks, so that the config can be read without the rest."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairlead.checks import CheckSettings

Count = Annotated[int, Field(ge=1)]


class ProbeSettings(BaseModel):
    """What the training left as it was, and what it moved: measured beside the comparison."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    texts: str | None = Field(
        None, description="plain text of another kind than the task; its perplexity shows forgetting"
    )
    task: str | None = Field(None, description="rows {prompt, gold?} of a general task, answered before and after")
    task_checks: list[CheckSettings] = Field([], description="checks on the general task's answers")
    max_texts_tokens: Count = Field(20_000, description="tokens of texts that are read")
    kl_prompts: Annotated[int, Field(ge=0)] = Field(
        64, description="eval prompts on which the KL from the reference is sampled; 0 measures none"
    )
    max_new_tokens: Count = Field(128, description="longest answer to the general task and of the KL's samples")
    max_length: Annotated[int, Field(ge=2)] = Field(1024, description="tokens of prompt and answer together")
    batch_size: Count = Field(16, description="rows computed at once")

    @model_validator(mode="after")
    def _task_is_checked(self) -> Self:
        if bool(self.task) != bool(self.task_checks):
            raise ValueError("probe.task and probe.task_checks belong together: give both or neither")
        names = [check.name for check in self.task_checks]
        if len(set(names)) < len(names):
            raise ValueError("probe.task_checks has two checks of one name")
        return self
