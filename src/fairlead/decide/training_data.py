"""How many training examples there are, and how good their answers are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fairlead.checks import Check
from fairlead.config.data import DataCheckSettings
from fairlead.data.checks.quality import check_pairs
from fairlead.decide.scoring import LEVEL, interval_of
from fairlead.decide.verdict import Training
from fairlead.documents.prepare import PrepareCounts
from fairlead.records import Example, Interval, Preference, Prompt

_MOST = 2000  # rows whose quality is measured; more would change the means by little

_DROPPED = {
    "duplicates": "duplicates",
    "leaks_dropped": "overlapping the evaluation",
    "dev_dropped": "overlapping the dev split",
}


def examine(
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    preferences: Sequence[Preference],
    checks: Mapping[str, Check],
    prepared: PrepareCounts,
    *,
    settings: DataCheckSettings,
    similarity: float,
) -> Training:
    """Counts and measures the training rows; ready pairs are checked as `fairlead data check` does.

    Args:
        settings: the `data_check` section.
        prepared: rows that the stage `prepare` kept and dropped.
    """
    distinct = {p.id for p in prompts} | {e.prompt.id for e in examples} | {p.prompt.id for p in preferences}
    dropped = {
        words: sum(getattr(rows, key) for rows in (prepared.sft, prepared.prompts, prepared.preferences))
        for key, words in _DROPPED.items()
    }
    answers = Counter(example.answer for example in examples)
    repeated = sum(n for n in answers.values() if n > 1) / len(examples) if examples else None
    return Training(
        prompts=len(distinct),
        counts={"sft": len(examples), "prompts": len(prompts), "preferences": len(preferences)},
        dropped={words: count for words, count in dropped.items() if count},
        quality=_quality(examples[:_MOST], checks),
        repeated=repeated,
        faults=_faults(preferences[:_MOST], settings, similarity),
    )


def _faults(preferences: Sequence[Preference], settings: DataCheckSettings, similarity: float) -> dict[str, str] | None:
    """Checks of ready pairs that warn or fail, waived ones with their reason; None where there are no ready pairs."""
    if not preferences:
        return None
    places = [str(number) for number in range(1, len(preferences) + 1)]
    # Only the status is reported here; `fairlead data check` says what is wrong and how to fix it.
    report = check_pairs(preferences, places, settings, source="data.preferences", similarity=similarity, mend=str)
    return {
        finding.check: finding.status if finding.waived is None else f"waived: {finding.waived}"
        for finding in report.findings
        if finding.status != "pass"
    }


def _quality(examples: Sequence[Example], checks: Mapping[str, Check]) -> dict[str, Interval]:
    means: dict[str, Interval] = {}
    for name, check in checks.items():
        values = [(check(e.answer, e.prompt.gold), e.prompt.cluster or e.prompt.id) for e in examples]
        present = [(v, c) for v, c in values if v is not None]
        if present:
            means[name] = interval_of(name, [v for v, _ in present], [c for _, c in present], LEVEL)
    return means
