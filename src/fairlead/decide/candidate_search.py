"""Which candidates are tried, in which order.

Instructions first; examples, and passages, on the best instruction; then the best of both together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fairlead.config.decide import DecideSection
from fairlead.config.evaluation import AnswersSection
from fairlead.decide.answerers import open_respondent
from fairlead.decide.candidates import Instruction, Recipe
from fairlead.decide.instruction_optimizer import Failure, write_instructions
from fairlead.decide.prompt_material import Material
from fairlead.decide.runner import Bench, NoRoomError, Trial
from fairlead.decide.scoring import Scorer
from fairlead.errors import JudgeError
from fairlead.pipeline.stage import Context
from fairlead.records import Prompt

_WRITER_TOKENS = 1024


class Campaign:
    """The candidates of a project.

    Args:
        scored: the prompts that every candidate answers.
        tuning: the prompts whose failures a writer is shown.
        max_missing: share of answers without a text above which a candidate is refused.

    Attributes:
        skipped: what was not tried, and why.
    """

    def __init__(
        self,
        context: Context[Any],
        section: DecideSection,
        material: Material,
        scorer: Scorer,
        *,
        scored: Sequence[Prompt],
        tuning: Sequence[Prompt],
        max_missing: float,
    ) -> None:
        self._context, self._section, self._material, self._scorer = context, section, material, scorer
        self._scored, self._tuning, self._max_missing = scored, tuning, max_missing
        self.skipped: list[dict[str, str]] = []

    def instructions(self, bench: Bench) -> list[Instruction]:
        """The prompt as given, the listed variants, and those that a model writes for the respondent of the bench."""
        listed = [Instruction(f"instruction {n}", text) for n, text in enumerate(self._section.instructions, 1)]
        start = [Instruction(), *listed]
        return start + self._written(bench, start)

    def trials(self, bench: Bench, instructions: Sequence[Instruction]) -> Iterator[Trial]:
        """Every candidate on one model; the prompt as it is given comes first."""
        bare = self._try(bench, [Recipe(instruction) for instruction in instructions])
        yield from bare
        best = self._best(bare).instruction
        shots = self._try(bench, [Recipe(best, k, selection) for selection, k in self._shot_kinds()])
        yield from shots
        found = self._try(bench, [Recipe(best, passages=k, search=search) for search, k in self._passage_kinds()])
        yield from found
        if shots and found:
            shot, passage = self._best(shots), self._best(found)
            yield from self._try(bench, [Recipe(best, shot.shots, shot.selection, passage.passages, passage.search)])

    def _shot_kinds(self) -> list[tuple[str, int]]:
        few = self._section.few_shot
        if few is None:
            return []
        if not self._material.examples:
            self._skip("few-shot", "there are no SFT rows and no ready pairs to take examples from")
            return []
        kinds: list[str] = [kind for kind in few.selection if kind != "nearest"] + list(self._material.nearest)
        return [(kind, k) for kind in kinds for k in few.ks]

    def _passage_kinds(self) -> list[tuple[str, int]]:
        retrieval = self._section.retrieval
        return [] if retrieval is None else [(search, k) for search in self._material.search for k in retrieval.ks]

    def _try(self, bench: Bench, recipes: Sequence[Recipe]) -> list[Trial]:
        found: list[Trial] = []
        for recipe in recipes:
            try:
                trial = bench.run(recipe, self._scored)
            except NoRoomError as error:
                self._skip(f"{recipe.name}, {bench.respondent.name}", str(error))
                continue
            self._refuse_missing(trial)
            found.append(trial)
        return found

    def _skip(self, name: str, why: str) -> None:
        if {"candidate": name, "why": why} not in self.skipped:
            self.skipped.append({"candidate": name, "why": why})
            self._context.progress.line(f"      not tried: {name}: {why}")

    def _refuse_missing(self, trial: Trial) -> None:
        missing = [reply.why for reply in trial.replies if reply.text is None]
        if len(missing) > self._max_missing * len(trial.replies):
            raise JudgeError(
                f"{len(missing)} of {len(trial.replies)} answers are missing, the last because {missing[-1]}",
                where=f"decide.models, {trial.model}",
                remedy="run the same command again: replies that came are kept (the limit is eval.max_missing)",
            )

    def _best(self, trials: Sequence[Trial]) -> Recipe:
        """The recipe nearest to the targets; of equals the first."""

        def margin(trial: Trial) -> float:
            values = self._scorer.values(trial, self._scored)
            return self._scorer.candidate(trial, values, self._scored).margin

        return max(trials, key=margin).recipe

    def _written(self, bench: Bench, start: Sequence[Instruction]) -> list[Instruction]:
        settings = self._section.writer
        if settings is None or not self._tuning:
            return []
        answers = AnswersSection(max_new_tokens=_WRITER_TOKENS)
        writer = open_respondent(settings.model, self._context.folder, answers, seed=self._context.seed)

        def judge(instruction: Instruction) -> tuple[float, list[Failure]]:
            try:
                trial = bench.run(Recipe(instruction), self._tuning)
            except NoRoomError:
                return float("-inf"), []
            values = self._scorer.values(trial, self._tuning)
            worth = self._scorer.candidate(trial, values, self._tuning).margin
            return worth, self._scorer.failures(trial, values, self._tuning)

        return write_instructions(writer, settings, start, self._material.examples, judge)
