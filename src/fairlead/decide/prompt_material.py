"""What candidates add to a prompt: examples from the training rows, passages from documents, and indexes of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from fairlead.config.decide import DecideSection, RetrievalSettings
from fairlead.decide.candidates import NEAREST, NEAREST_EMBEDDING, Recipe
from fairlead.decide.retrieval.documents import LeftOut, read_documents
from fairlead.decide.retrieval.index import Bm25Index, Embed, EmbeddingIndex, FusedIndex, Index
from fairlead.decide.retrieval.passages import Passage, passages_of
from fairlead.pipeline.stage import resolve
from fairlead.records import Example, Preference, Prompt, content_id
from fairlead.text.words import asked


@dataclass(frozen=True)
class PromptMaterial:
    """What candidates add to a prompt.

    Attributes:
        examples: the SFT rows.
        nearest: indexes of the examples' prompts, by the name of the selection.
        passages: of the documents.
        search: indexes of the passages, by name.
        gold_passage: the gold field that names the right passage.
    """

    examples: Sequence[Example] = ()
    nearest: Mapping[str, Index] = field(default_factory=dict)
    passages: Sequence[Passage] = ()
    search: Mapping[str, Index] = field(default_factory=dict)
    gold_passage: str | None = None
    seed: int = 0

    def shots(self, prompt: Prompt, recipe: Recipe) -> list[Example]:
        """Examples for a prompt, the nearest first."""
        if recipe.selection in self.nearest:
            return [self.examples[n] for n in self.nearest[recipe.selection].nearest(asked(prompt), recipe.shots)]
        which = "" if recipe.selection == "fixed" else prompt.id
        draw = Random(content_id("shots", self.seed, which))
        return draw.sample(list(self.examples), min(recipe.shots, len(self.examples)))

    def retrieve(self, prompt: Prompt, recipe: Recipe) -> list[Passage]:
        """Passages for a prompt, the nearest first."""
        if not recipe.passages:
            return []
        return [self.passages[n] for n in self.search[recipe.search].nearest(asked(prompt), recipe.passages)]

    def recall(self, prompt: Prompt, passages: Sequence[Passage]) -> float | None:
        """1 if the gold passage is among the passages, else 0; None if the prompt's gold names none."""
        marked = prompt.gold.get(self.gold_passage) if self.gold_passage else None
        gold_texts = [text for gold in (marked if isinstance(marked, list) else [marked]) if (text := _marks(gold))]
        if not gold_texts:
            return None
        return float(any(_is(passage, gold) for gold in gold_texts for passage in passages))


def _marks(gold: Any) -> str:
    """The text of a gold value that names a passage: text or a number; "" for anything else."""
    return str(gold).strip() if isinstance(gold, str | int | float) and not isinstance(gold, bool) else ""


def _is(passage: Passage, gold: str) -> bool:
    """Whether gold is the name of the passage's document or part of its text."""
    plain = " ".join(gold.casefold().split())
    return gold == passage.document or plain in " ".join(passage.searched.casefold().split())


def examples_of(rows: Sequence[Example], ready_pairs: Sequence[Preference]) -> list[Example]:
    """The SFT rows, or, without any, the chosen answers of ready pairs."""
    return list(rows) or [Example(pair.prompt, pair.chosen) for pair in ready_pairs]


def gather(
    section: DecideSection, folder: Path, examples: Sequence[Example], seed: int
) -> tuple[PromptMaterial, list[LeftOut]]:
    """The examples and documents of the config, and the documents that could not be read.

    Raises:
        DataError: if the folder of documents is missing or has no readable document.
    """
    embed = _embed(section, folder)
    material = PromptMaterial(examples=examples, nearest=_nearest(section, examples, embed), seed=seed)
    settings = section.retrieval
    if settings is None:
        return material, []
    documents, left_out = read_documents(resolve(folder, settings.documents), max_megabytes=settings.max_megabytes)
    passages = [
        passage
        for document in documents
        for passage in passages_of(document, chunk_words=settings.chunk_words, overlap_words=settings.overlap_words)
    ]
    search = _search(settings, [passage.searched for passage in passages], embed)
    return replace(material, passages=passages, search=search, gold_passage=settings.gold_passage), left_out


def _embed(section: DecideSection, folder: Path) -> Embed | None:
    if section.embedding is None:
        return None
    from fairlead.models.embeddings import Encoder  # loads torch

    return Encoder(section.embedding, folder)


def _nearest(section: DecideSection, examples: Sequence[Example], embed: Embed | None) -> dict[str, Index]:
    if section.few_shot is None or not examples or NEAREST not in section.few_shot.selection:
        return {}
    texts = [asked(example.prompt) for example in examples]
    by_words: dict[str, Index] = {NEAREST: Bm25Index(texts)}
    return by_words if embed is None else by_words | {NEAREST_EMBEDDING: EmbeddingIndex(texts, embed)}


def _search(settings: RetrievalSettings, texts: Sequence[str], embed: Embed | None) -> dict[str, Index]:
    by_words: Index = Bm25Index(texts)
    known: dict[str, Index] = {"bm25": by_words}
    if embed is not None and set(settings.search) - {"bm25"}:
        by_meaning = EmbeddingIndex(texts, embed)
        known |= {"embeddings": by_meaning, "both": FusedIndex(by_words, by_meaning, len(texts))}
    return {name: known[name] for name in settings.search}
