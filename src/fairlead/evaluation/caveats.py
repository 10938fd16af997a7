"""What in a comparison ought to make a reader doubt it, each by name. Pure functions on texts and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from fairlead.text.repetition import ends_in_loop

NAMES = (
    "few_prompts",
    "missing_verdicts",
    "order",
    "length",
    "opposed_metrics",
    "multiple_metrics",
    "cut",
    "loops",
    "repeated_answer",
)
"""Every name that `warnings_of` can give."""

_FEW_PROMPTS = 50
_MANY_MISSING = 0.02
_MANY_INCONSISTENT = 0.2
_MANY_CUT = 0.05
_MANY_LOOPS = 0.02
_SAME_ANSWER, _SAME_ANSWER_TIMES = 0.1, 3
_LONGER = 1.1  # mean length of the first over that of the second from which answers count as grown
_LENGTH_MOVES = 0.02  # fall of the win rate under equal length that is worth a word


def answer_figures(texts: Sequence[str], cut: Sequence[bool] | None = None) -> dict[str, Any]:
    """What one view's answers are like.

    Args:
        cut: of each text, whether the token limit ended it; None where nobody knows.
    """
    n = len(texts)
    text, times = Counter(t.strip() for t in texts).most_common(1)[0] if n else ("", 0)
    return {
        "n": n,
        "mean_characters": sum(map(len, texts)) / n if n else None,
        "cut": sum(cut) / n if n and cut is not None else None,
        "loops": sum(map(ends_in_loop, texts)) / n if n else None,
        "most_common": {"text": text[:200], "times": times},
    }


def warnings_of(
    table: Sequence[Mapping[str, Any]],
    pairwise: Mapping[str, Mapping[str, Any]],
    answers: Mapping[str, Mapping[str, Any]],
    *,
    prompts: int,
    missing: float,
) -> list[dict[str, str]]:
    """Every warning as {name, text}; an empty list where nothing is amiss.

    Args:
        table: rows as `table_row` and `with_holm` make them.
        pairwise: figures as `pairwise_figures` makes them, by pair.
        answers: `answer_figures` of each view.
        missing: share of all judgements that are missing.
    """
    found: list[tuple[str, str]] = []
    if prompts < _FEW_PROMPTS:
        found.append(("few_prompts", f"{prompts} prompts can show little; {_FEW_PROMPTS} are a sensible least"))
    if missing > _MANY_MISSING:
        found.append(("missing_verdicts", f"{missing:.1%} of the judgements are missing: see worst and best"))
    found += [item for name, pair in pairwise.items() for item in _pair_warnings(name, pair, answers)]
    found += _opposed(table, pairwise)
    found += _uncorrected(table)
    found += [item for view, figures in answers.items() for item in _view_warnings(view, figures)]
    return [{"name": name, "text": text} for name, text in found]


def _pair_warnings(
    name: str, pair: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str]]:
    found = []
    shown = name.replace("_", " ")
    states = pair["states"]
    judged = states["win"] + states["loss"] + states["tie"] + states["inconsistent"]
    if judged and states["inconsistent"] > _MANY_INCONSISTENT * judged:
        share = states["inconsistent"] / judged
        found.append(("order", f"{shown}: {share:.0%} of the verdicts change with the order in which answers stand"))
    length = _length_doubt(pair, *_mean_lengths(name, answers))
    return found + ([("length", f"{shown}: {length}")] if length else [])


def _mean_lengths(name: str, answers: Mapping[str, Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """Mean characters of the two views of a pair."""
    for first, second in permutations(answers, 2):
        if name == f"{first}_vs_{second}":
            return answers[first]["mean_characters"], answers[second]["mean_characters"]
    return None, None


def _length_doubt(pair: Mapping[str, Any], new: float | None, old: float | None) -> str | None:
    """Why a win rate above a half may be the length's doing."""
    rate, adjusted = pair["win_rate"], pair.get("length_adjusted")
    if new is None or not old or new <= _LONGER * old or rate is None or adjusted is None:
        return None
    grown = f"answers grew from {old:.0f} to {new:.0f} characters"
    if adjusted["value"] is None:
        why = adjusted["method"].removeprefix("undefined: ")
        return f"{grown}, and a win rate of {rate:.1%} cannot be told from length ({why})" if rate > 0.5 else None
    if adjusted["value"] >= rate - _LENGTH_MOVES:
        return None
    return f"{grown}, and at equal length the win rate is {adjusted['value']:.1%} instead of {rate:.1%}"


def _opposed(table: Sequence[Mapping[str, Any]], pairwise: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Metrics that credibly move against the judge's verdict on the same two models."""
    found = []
    for name, pair in pairwise.items():
        opposite = {"better": "worse", "worse": "better"}.get(pair["word"])
        against = [str(row["metric"]) for row in table if row["word"] == opposite and _pair_of(row) == name]
        if len(against) > 1:
            said = f"{name.replace('_', ' ')}: the judge says {pair['word']}, and {', '.join(against)} are {opposite}"
            found.append(("opposed_metrics", said))
    return found


def _pair_of(row: Mapping[str, Any]) -> str:
    """The pair that a row's Δ is of."""
    return f"{row['first']}_vs_{row['second']}" if "first" in row else f"dpo_vs_{row['against']}"


def _uncorrected(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Metrics whose difference would not stand after correcting for how many were looked at."""
    doubtful = [
        str(row["metric"]) + (f" ({_pair_of(row).replace('_', ' ')})" if "first" in row else "")
        for row in table
        if row["word"] in ("better", "worse") and row.get("p_holm") is not None and row["p_holm"] > 0.05
    ]
    if not doubtful:
        return []
    text = f"{', '.join(doubtful)}: different alone, not after Holm's correction over {len(table)} differences"
    return [("multiple_metrics", text)]


def _view_warnings(view: str, figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    n = figures["n"]
    if not n:
        return []
    found = []
    if figures["cut"] is not None and figures["cut"] > _MANY_CUT:
        found.append(("cut", f"{view}: {figures['cut']:.0%} of the answers are cut by the token limit"))
    if figures["loops"] > _MANY_LOOPS:
        found.append(("loops", f"{view}: {figures['loops']:.0%} of the answers repeat themselves without end"))
    times = figures["most_common"]["times"]
    if times >= _SAME_ANSWER_TIMES and times > _SAME_ANSWER * n:
        said = figures["most_common"]["text"][:60]
        found.append(("repeated_answer", f"{view}: one answer is given to {times} of {n} prompts: {said!r}"))
    return found
