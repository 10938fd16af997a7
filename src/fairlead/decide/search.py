"""Which candidates are tried, in which order.

Instructions come first; then examples with the best instruction, and passages with it; then the best of both together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fairlead.config.decide import DecideSection
from fairlead.config.evaluation import AnswersSection
from fairlead.decide.answerers import open_answerer
from fairlead.decide.candidates import (
    INSTRUCTION_TOKENS,
    Instruction,
    Recipe,
    listed_instructions,
    passage_kinds,
    shot_kinds,
)
from fairlead.decide.instruction_optimizer import Failure, optimize_instructions
from fairlead.decide.prompt_material import PromptMaterial
from fairlead.decide.runner import CandidateResult, CandidateRunner, NoRoomError
from fairlead.decide.scoring import Scorer
from fairlead.documents.decision import NotTried
from fairlead.errors import JudgeError
from fairlead.pipeline.stage import Context
from fairlead.records import Prompt


class CandidateSearch:
    """The candidates of a project.

    Args:
        scored: the prompts that every candidate answers.
        tuning: the prompts whose failures the instruction optimizer sees.
        max_missing: the largest share of missing answers with which a candidate is measured.

    Attributes:
        not_tried: the candidates that were not tried, and why.
    """

    def __init__(
        self,
        context: Context[Any],
        section: DecideSection,
        material: PromptMaterial,
        scorer: Scorer,
        *,
        scored: Sequence[Prompt],
        tuning: Sequence[Prompt],
        max_missing: float,
    ) -> None:
        self._context, self._section, self._material, self._scorer = context, section, material, scorer
        self._scored, self._tuning, self._max_missing = scored, tuning, max_missing
        self.not_tried: list[NotTried] = []

    def instructions(self, runner: CandidateRunner) -> list[Instruction]:
        """The prompt as given, the configured instructions, and those that the optimizer writes for this answerer."""
        start = listed_instructions(self._section)
        return start + self._written(runner, start)

    def results(self, runner: CandidateRunner, instructions: Sequence[Instruction]) -> Iterator[CandidateResult]:
        """Every candidate on one model; the prompt as given comes first."""
        by_instruction = self._try(runner, [Recipe(instruction) for instruction in instructions])
        yield from by_instruction
        best = self._best(by_instruction).instruction
        few_shot = self._try(runner, [Recipe(best, k, selection) for selection, k in self._shot_kinds()])
        yield from few_shot
        retrieval = self._try(
            runner, [Recipe(best, passages=k, search=search) for search, k in passage_kinds(self._section)]
        )
        yield from retrieval
        if few_shot and retrieval:
            shots, passages = self._best(few_shot), self._best(retrieval)
            both = Recipe(best, shots.shots, shots.selection, passages.passages, passages.search)
            yield from self._try(runner, [both])

    def _shot_kinds(self) -> list[tuple[str, int]]:
        kinds = shot_kinds(self._section)
        if kinds and not self._material.examples:
            self._skip("few-shot", "there are no SFT rows and no ready pairs to take examples from")
            return []
        return kinds

    def _try(self, runner: CandidateRunner, recipes: Sequence[Recipe]) -> list[CandidateResult]:
        results: list[CandidateResult] = []
        for recipe in recipes:
            try:
                result = runner.run(recipe, self._scored)
            except NoRoomError as error:
                self._skip(f"{recipe.name}, {runner.answerer.name}", str(error))
                continue
            self._refuse_missing(result)
            results.append(result)
        return results

    def _skip(self, name: str, why: str) -> None:
        entry = NotTried(candidate=name, why=why)
        if entry not in self.not_tried:
            self.not_tried.append(entry)
            self._context.progress.line(f"      not tried: {name}: {why}")

    def _refuse_missing(self, result: CandidateResult) -> None:
        missing = [reply.why for reply in result.replies if reply.text is None]
        if len(missing) > self._max_missing * len(result.replies):
            raise JudgeError(
                f"{len(missing)} of {len(result.replies)} answers are missing, the last because {missing[-1]}",
                where=f"decide.models, {result.model}",
                remedy="run the same command again: the replies received are kept (the limit is eval.max_missing)",
            )

    def _best(self, results: Sequence[CandidateResult]) -> Recipe:
        """The recipe nearest to the targets; the first of several that are equally near."""

        def margin(result: CandidateResult) -> float:
            values = self._scorer.values(result, self._scored)
            return self._scorer.candidate(result, values, self._scored).margin

        return max(results, key=margin).recipe

    def _written(self, runner: CandidateRunner, start: Sequence[Instruction]) -> list[Instruction]:
        settings = self._section.instruction_optimizer
        if settings is None or not self._tuning:
            return []
        answers = AnswersSection(max_new_tokens=INSTRUCTION_TOKENS)
        optimizer = open_answerer(settings.model, self._context.folder, answers, seed=self._context.seed)

        def judge(instruction: Instruction) -> tuple[float, list[Failure]]:
            try:
                result = runner.run(Recipe(instruction), self._tuning)
            except NoRoomError:
                return float("-inf"), []
            values = self._scorer.values(result, self._tuning)
            margin = self._scorer.candidate(result, values, self._tuning).margin
            return margin, self._scorer.failures(result, values, self._tuning)

        return optimize_instructions(optimizer, settings, start, self._material.examples, judge)
