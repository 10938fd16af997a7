"""What a release rests on, evidence.json in the released folder, and what `fairlead release` did."""

from __future__ import annotations

from pydantic import Field

from fairlead.documents.base import Document
from fairlead.documents.gate import Candidate
from fairlead.documents.training import Origin


class ReleaseEvidence(Document):
    """What was judged and what is released, by hash.

    Attributes:
        despite: the reason given for releasing it although the evidence forbids it; None where it does not.
        problems: why the evidence forbids it.
        weights: SHA-256 of every file of weights in the release.
        trained: SHA-256 of every file of the trained model, before an adapter is merged.
        base: hash of the base model's files, read at the release; None for a model that is named by its hub id.
        dtype: the number type in which the judged answers were generated.
        gate_record: SHA-256 of gate.json; None where the gate has not judged it.
        eval_prompts: SHA-256 of the held-out prompts.
        template: SHA-256 of the chat template.
        config: hash of the config of every stage that the gate judged.
        brought_from: where the models come from that were not trained here, by stage.
    """

    version: str
    candidate: Candidate
    despite: str | None
    problems: tuple[str, ...]
    weights: dict[str, str]
    trained: dict[str, str]
    base: str | None = None
    dtype: str | None = None
    gate_record: str | None
    eval_prompts: str | None
    judge: str | None
    template: str | None
    config: str
    brought_from: dict[str, Origin] = Field(default_factory=dict)
    versions: dict[str, str]


class ReleaseResult(Document):
    """What `fairlead release` did, printed with `--json`.

    Attributes:
        where: the folder, or the address on the hub.
        dry_run: whether the last step was left out, so that nothing is there.
        despite: the reason given for releasing it although the evidence forbids it; None where it does not.
        problems: why the evidence forbids it.
        files: SHA-256 of every released file.
    """

    version: str
    candidate: Candidate
    where: str
    dry_run: bool
    despite: str | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    files: dict[str, str]
