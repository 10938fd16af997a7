"""Asks one answerer the dev prompts with one recipe; finished candidates are kept, so a kill loses at most one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fairlead.decide.answerers import Answerer, Reply
from fairlead.decide.candidates import Filled, Recipe, fill
from fairlead.decide.prompt_material import PromptMaterial
from fairlead.documents.base import Document
from fairlead.errors import ArtifactError, FairleadError, ModelError
from fairlead.records import Prompt, content_id

_NO_ROOM_SHARE = 0.5  # above this share of prompts without room for an example, a candidate is not what its name says


class NoRoomError(Exception):
    """A candidate does not fit the context of the model."""


@dataclass(frozen=True)
class CandidateResult:
    """The results of one recipe on one model; every tuple has one entry per prompt."""

    recipe: Recipe
    model: str
    replies: tuple[Reply, ...]
    shots: tuple[int, ...]
    passages: tuple[int, ...]
    recall: tuple[float | None, ...]


class StoredCandidate(Document):
    """The file of a finished candidate; its name stands for the recipe and the model."""

    replies: tuple[Reply, ...]
    shots: tuple[int, ...]
    passages: tuple[int, ...]
    recall: tuple[float | None, ...]

    @classmethod
    def of(cls, result: CandidateResult) -> StoredCandidate:
        return cls(replies=result.replies, shots=result.shots, passages=result.passages, recall=result.recall)

    @classmethod
    def at(cls, path: Path) -> StoredCandidate:
        """The candidate in a file.

        Raises:
            ArtifactError: if it cannot be read.
        """
        try:
            return cls.read(path)
        except FairleadError as error:
            raise ArtifactError(
                error.what, where=str(path), remedy="delete the file: its prompts are asked again"
            ) from error

    @classmethod
    def complete(cls, path: Path) -> StoredCandidate | None:
        """The candidate in a file; None where there is none, or one that lacks a reply."""
        stored = cls.at(path) if path.exists() else None
        return None if stored is None or any(reply.text is None for reply in stored.replies) else stored

    def result(self, recipe: Recipe, model: str) -> CandidateResult:
        return CandidateResult(recipe, model, self.replies, self.shots, self.passages, self.recall)


class CandidateRunner:
    """Runs recipes on one answerer.

    Args:
        folder: where finished candidates are kept.
        advance: called with a label and the number of answers that came in.
    """

    def __init__(
        self, answerer: Answerer, material: PromptMaterial, folder: Path, advance: Callable[[str, int], None]
    ) -> None:
        self.answerer, self._material = answerer, material
        self._folder, self._advance = folder, advance

    def run(self, recipe: Recipe, prompts: Sequence[Prompt]) -> CandidateResult:
        """Asks every prompt, or reads the result of a finished candidate, unless it lacks a reply.

        Raises:
            NoRoomError: if the context has no room for what the recipe adds to the prompt.
            ModelError: if a prompt as given does not fit.
        """
        key = content_id(self.answerer.name, asdict(recipe), [prompt.id for prompt in prompts])
        path = self._folder / f"{key}.json"
        stored = StoredCandidate.complete(path)
        if stored is not None:
            return stored.result(recipe, self.answerer.name)
        filled, recall = self._fill(recipe, prompts)
        label = f"{recipe.name}, {self.answerer.name}"
        replies = self.answerer.answer([f.prompt for f in filled], lambda count: self._advance(label, count))
        result = CandidateResult(
            recipe,
            self.answerer.name,
            tuple(replies),
            tuple(f.shots for f in filled),
            tuple(f.passages for f in filled),
            tuple(recall),
        )
        StoredCandidate.of(result).write(path)
        return result

    def _fill(self, recipe: Recipe, prompts: Sequence[Prompt]) -> tuple[list[Filled], list[float | None]]:
        filled: list[Filled] = []
        recall: list[float | None] = []
        for prompt in prompts:
            shots = self._material.shots(prompt, recipe) if recipe.shots else []
            passages = self._material.retrieve(prompt, recipe)
            filled_prompt = fill(prompt, recipe.instruction.text, shots, passages, self.answerer.fits)
            if recipe.instruction.text is None and not (recipe.shots or recipe.passages):
                self._must_fit(filled_prompt.prompt)
            elif not self.answerer.fits(filled_prompt.prompt):
                raise NoRoomError("an instruction and a prompt alone exceed the context")
            filled.append(filled_prompt)
            recall.append(
                self._material.recall(prompt, passages[: filled_prompt.passages]) if recipe.passages else None
            )
        for what, requested, counts in (
            ("an example", recipe.shots, [f.shots for f in filled]),
            ("a passage", recipe.passages, [f.passages for f in filled]),
        ):
            if requested and counts.count(0) > _NO_ROOM_SHARE * len(counts):
                raise NoRoomError(f"the context has no room for {what} in most prompts")
        return filled, recall

    def _must_fit(self, prompt: Prompt) -> None:
        if not self.answerer.fits(prompt):
            raise ModelError(
                f"the prompt {prompt.text[:60]!r} leaves no room for an answer in the context",
                where=self.answerer.name,
                remedy="shorten it or lower answers.max_new_tokens",
            )
