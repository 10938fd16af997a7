"""What a release rests on: evidence.json in the released folder."""

from __future__ import annotations

from typing import Any

from fairlead.documents.base import Document


class ReleaseEvidence(Document):
    """What was judged and what is released, by hash.

    Attributes:
        despite: the reason for which it is released although the evidence forbids it; None where it does not.
        problems: what forbids it.
        weights: SHA-256 of every file of weights in the release.
        trained: SHA-256 of every file of the trained model, before any merge.
        base: hash of the base model's files, read at the release; None for a model that is named by its hub id.
        dtype: the precision in which the answers were given that the gate judged.
        gate_record: SHA-256 of gate.json; None where the gate has not judged it.
        eval_prompts: SHA-256 of the held-out prompts.
        template: SHA-256 of the chat template.
        config: hash of the config of every stage that the gate judged.
    """

    version: str
    candidate: str
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
    versions: dict[str, str]

    def content(self) -> dict[str, Any]:
        """The evidence as JSON values."""
        return self.model_dump(mode="json")
