"""Checks, verdicts and scores of several models' answers to the same prompts, whoever made the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from fairlead.checks import build_check
from fairlead.config.checks import CheckSettings
from fairlead.evaluation.table import Values
from fairlead.judges.base import Judge
from fairlead.progress import Progress
from fairlead.records import Answer, Comparison, Prompt, ScoreState, Verdict, VerdictState

Texts = Mapping[str, Sequence[str]]  # by model, one answer per prompt


def measure(
    metrics: Sequence[CheckSettings],
    prompts: Sequence[Prompt],
    texts: Mapping[str, Sequence[str | None]],
    folder: Path,
) -> dict[str, Values]:
    """Every declared metric of every model's answer to every prompt; None where there is no answer."""
    values: dict[str, Values] = {}
    for settings in metrics:
        check = build_check(settings, folder)
        values[settings.name] = {
            model: [
                None if text is None else check(text, prompt.gold)
                for prompt, text in zip(prompts, answers, strict=True)
            ]
            for model, answers in texts.items()
        }
    return values


def verdicts_on(
    judge: Judge,
    prompts: Sequence[Prompt],
    first: Sequence[str],
    second: Sequence[str],
    *,
    what: str,
    progress: Progress,
) -> list[Verdict]:
    """One verdict per prompt on the first's answer against the second's; equal answers are a tie that costs nothing."""
    comparisons = [Comparison(p, a, b) for p, a, b in zip(prompts, first, second, strict=True)]
    different = [c for c in comparisons if c.first != c.second]
    judged: dict[str, Verdict] = {}
    with progress.task("eval", what, len(different)) as bar:
        for verdict in judge.compare(different):
            judged[verdict.comparison_id] = verdict
            bar.update(len(judged))
    return [
        judged.get(c.id) or Verdict(c.id, VerdictState.TIE, judge.name, margin=0.0, reason="equal answers")
        for c in comparisons
    ]


def scores_on(
    judge: Judge, prompts: Sequence[Prompt], texts: Texts, *, what: str, progress: Progress
) -> tuple[Values, Counter[ScoreState]]:
    """The judge's score of every answer, None where it is missing, and how many of each state.

    Args:
        what: name of the scores, for the progress.
    """
    values: Values = {}
    counts: Counter[ScoreState] = Counter()
    done = 0
    with progress.task("eval", what, sum(map(len, texts.values()))) as bar:
        for model, answers in texts.items():
            values[model] = []
            for score in judge.score([Answer(p, text) for p, text in zip(prompts, answers, strict=True)]):
                values[model].append(score.value)
                counts[score.state] += 1
                done += 1
                bar.update(done)
    return values, counts
