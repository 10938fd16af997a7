"""The rubric judge: a weighted mean of declared checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fairlead.checks import PatternTimeoutError, build_check
from fairlead.config.judges import RubricSettings
from fairlead.errors import JudgeError
from fairlead.records import Answer, Comparison, Prompt, Score, ScoreState, Verdict, VerdictState, content_id


class RubricJudge:
    """Judges by the weighted mean of its checks, in [0, 1].

    Checks that are undefined for a prompt (its gold lacks the field) are left out of its mean and named in the
    reason. An answer on which a pattern does not finish in time has no verdict.

    Args:
        settings: the checks and their weights.
        folder: the project folder, for files that checks name.
    """

    def __init__(self, settings: RubricSettings, folder: Path) -> None:
        self._tie_margin = settings.tie_margin
        self._checks = [(check.name, check.weight, build_check(check, folder)) for check in settings.checks]
        self.name = f"rubric:{content_id(settings.model_dump(mode='json'))}"

    def compare(self, items: Iterable[Comparison]) -> Iterator[Verdict]:
        for item in items:
            try:
                first, parts_1 = self._total(item.prompt, item.first)
                second, parts_2 = self._total(item.prompt, item.second)
            except PatternTimeoutError as error:
                yield Verdict(item.id, VerdictState.FAILED, self.name, reason=str(error))
                continue
            difference = round(first - second, 9)  # equal sums of floats must tie
            if abs(difference) <= self._tie_margin:
                state = VerdictState.TIE
            else:
                state = VerdictState.WIN if difference > 0 else VerdictState.LOSS
            yield Verdict(item.id, state, self.name, margin=abs(difference), reason=f"{parts_1} against {parts_2}")

    def score(self, items: Iterable[Answer]) -> Iterator[Score]:
        """The weighted mean mapped from [0, 1] to [1, 10]."""
        for item in items:
            try:
                total, parts = self._total(item.prompt, item.text)
            except PatternTimeoutError as error:
                yield Score(item.id, ScoreState.FAILED, self.name, reason=str(error))
                continue
            yield Score(item.id, ScoreState.SCORED, self.name, value=1 + 9 * total, reason=parts)

    def _total(self, prompt: Prompt, answer: str) -> tuple[float, str]:
        """The weighted mean of the checks that are defined for this prompt, and each of them in words."""
        total, weights, parts = 0.0, 0.0, []
        for name, weight, check in self._checks:
            value = check(answer, prompt.gold)
            if value is None:
                parts.append(f"{name} undefined")
                continue
            total, weights = total + weight * value, weights + weight
            parts.append(f"{name} {value:.2g}")
        if weights == 0:
            raise JudgeError(
                "none of the rubric's checks is defined: its gold lacks every field they compare with",
                where=f"prompt {prompt.id} ({prompt.text[:60]!r})",
                remedy="give the row the gold fields that the checks name, or add a check that needs none",
            )
        return total / weights, ", ".join(parts)
