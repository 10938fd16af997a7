"""The `decide` section of the YAML. Imports no other room, so that reading the config loads no model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from fairlead.config.base import (
    Count,
    CountOrZero,
    Distinct,
    FilePath,
    Integer,
    ModelPath,
    NotInKey,
    NotNegative,
    Number,
    Positive,
    PresenceInKey,
    Section,
)
from fairlead.config.values.asked_models import ModelSettings, name_of
from fairlead.escape import shorten

Search = Literal["bm25", "embeddings", "both"]
Selection = Literal["fixed", "random", "nearest"]

BASE = "base"  # the name of the project's own base model among those asked


class Target(Section):
    """A lower bound on a metric that answers must reach."""

    metric: str = Field(description="name of a check in eval.metrics, or judge_score for the judge's 1 to 10")
    at_least: Number = Field(description="the mean over the dev prompts must be shown to be this or more")


class InstructionOptimizerSettings(Section):
    """A model that writes instructions and improves them on what went wrong."""

    model: ModelSettings = Field(description="the model that writes")
    rounds: Count = Field(
        2, description="times that it writes, each after seeing failures; the budget is rounds × per_round"
    )
    per_round: Count = Field(2, description="instructions it writes in a round")
    failures: Count = Field(6, description="failed answers it is shown in a round")


class FewShotSettings(Section):
    """Examples from the SFT rows, put before the prompt as earlier turns."""

    ks: Annotated[list[Count], Field(min_length=1), Distinct] = Field([1, 4], description="how many examples")
    selection: Annotated[list[Selection], Field(min_length=1), Distinct] = Field(
        ["fixed", "random", "nearest"],
        description="the same for all prompts, drawn for each, or the most similar by BM25 (and by decide.embedding)",
    )


class RetrievalSettings(Section):
    """Passages from a folder of documents, put before the prompt."""

    documents: FilePath = Field(description="folder of text, Markdown, HTML and PDF files")
    ks: Annotated[list[Count], Field(min_length=1), Distinct] = Field([3], description="how many passages")
    search: Annotated[list[Search], Field(min_length=1), Distinct] = Field(
        ["bm25"], description="bm25, embeddings (of decide.embedding), or both joined by their ranks"
    )
    chunk_words: Annotated[Integer, Field(ge=5)] = Field(150, description="longest passage, in words")
    overlap_words: CountOrZero = Field(30, description="words that a long text's passages share")
    max_megabytes: Positive = Field(20.0, description="larger documents are left out, and the decision says so")
    gold_passage: str | None = Field(
        None, description="gold field that names the right document or quotes the right passage, to measure recall"
    )

    @model_validator(mode="after")
    def _advances(self) -> Self:
        if self.overlap_words >= self.chunk_words:
            raise ValueError(f"overlap_words {self.overlap_words} must be less than chunk_words {self.chunk_words}")
        return self


class EmbeddingSettings(Section):
    """An encoder on this machine, loaded by sentence-transformers (pip install 'fairlead[embeddings]')."""

    model: ModelPath = Field(description="model folder or hub id")
    batch_size: Annotated[Count, NotInKey] = Field(32, description="texts encoded at once")
    query_prefix: str = Field("", description="put before a text that searches, in place of the encoder's own prompt")
    passage_prefix: str = Field("", description="the same for a text that is searched")


class DecideSection(Section):
    """Whether to fine-tune at all; `waive` skips the measurement."""

    renamed: ClassVar[dict[str, str]] = {"writer": "instruction_optimizer"}

    waive: Annotated[str | None, PresenceInKey] = Field(
        None, description="reason to train without a decision; printed on every report"
    )
    targets: list[Target] | None = Field(
        None, description="what is good enough; if not given, the gate's criteria on table.<metric>.dpo"
    )
    min_prompts: Count = Field(50, description="fewer dev prompts than this are not enough evidence")
    min_examples: Count = Field(1000, description="training prompts from which fine-tuning has enough to learn from")
    instructions: list[str] = Field([], description="instructions to try besides the prompt as it is given")
    instruction_optimizer: InstructionOptimizerSettings | None = Field(
        None, description="model that writes instructions and improves them on what went wrong"
    )
    few_shot: FewShotSettings | None = Field(FewShotSettings(), description="examples in the prompt; null skips them")
    retrieval: RetrievalSettings | None = Field(None, description="documents to search; null skips retrieval")
    embedding: EmbeddingSettings | None = Field(None, description="encoder for nearest examples and passages")
    models: list[ModelSettings] = Field([], description="models to ask besides the base model")
    price_per_hour: Annotated[NotNegative | None, NotInKey] = Field(
        None, description="price of an hour of the base model's machine"
    )

    @field_validator("waive")
    @classmethod
    def _reason(cls, waive: str | None) -> str | None:
        if waive is not None and not waive.strip():
            raise ValueError("give the reason in words")
        return waive

    @field_validator("instructions")
    @classmethod
    def _texts(cls, instructions: list[str]) -> list[str]:
        if any(not text.strip() for text in instructions):
            raise ValueError("one of them is empty")
        if len(set(instructions)) < len(instructions):
            raise ValueError("two of them are the same")
        return instructions

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        names = [BASE, *(name_of(model) for model in self.models)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"models has two named {shorten(twice[0])}: give one of them another name")
        searches = self.retrieval.search if self.retrieval else []
        if self.embedding is None and any(search != "bm25" for search in searches):
            raise ValueError("retrieval.search by embeddings needs decide.embedding")
        nearest = self.few_shot is not None and "nearest" in self.few_shot.selection
        if self.embedding is not None and not nearest and all(search == "bm25" for search in searches):
            raise ValueError("embedding is read by nothing: search by it, or select nearest examples")
        return self
