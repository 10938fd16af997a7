"""How many judgements gave no verdict, and when that is too many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fairlead.errors import JudgeError
from fairlead.records import Score, ScoreState, Verdict, VerdictState
from fairlead.records.judge_names import short_name


def by_state(counts: Mapping[VerdictState, int]) -> dict[str, int]:
    """How many judgements have each of the seven states, zeros included."""
    return {str(state): counts.get(state, 0) for state in VerdictState}


def missing_share(counts: Mapping[VerdictState, int] | Mapping[ScoreState, int]) -> float:
    """Share of judgements that are unreadable, refused or failed; 0 where nothing was asked."""
    total = sum(counts.values())
    return sum(count for state, count in counts.items() if state.missing) / total if total else 0.0


def reason_missing(judgements: Iterable[Verdict] | Iterable[Score]) -> str:
    """Why the first of the judgements that are missing is; empty where none is or it does not say."""
    return next((" ".join(judgement.reason.split()) for judgement in judgements if judgement.state.missing), "")


def refuse_if_missing(
    counts: Mapping[VerdictState, int] | Mapping[ScoreState, int],
    *,
    limit: float,
    key: str,
    judge: str,
    reason: str = "",
) -> None:
    """Stops a stage that rests on too few verdicts.

    Args:
        reason: why one of them is missing, so that an outage is named and not only counted.

    Raises:
        JudgeError: naming how many of each state there are.
    """
    share = missing_share(counts)
    if share <= limit:
        return
    missing = {str(state): count for state, count in counts.items() if count and state.missing}
    listed = ", ".join(f"{count} {state}" for state, count in missing.items())
    example = f"; the first: {reason[:_MOST_CHARS]}" if reason else ""
    raise JudgeError(
        f"{share:.1%} of {sum(counts.values())} judgements are missing ({listed}{example}), more than {key} "
        f"{limit:.1%} allows",
        where=short_name(judge),
        remedy=_REMEDIES[max(missing, key=missing.__getitem__)],
    )


_MOST_CHARS = 200
_KEPT = "replies that were paid for are kept"
_REMEDIES = {
    "failed": f"mend the judge's endpoint and run the same command again; {_KEPT}",
    "unreadable": "use a model that can judge, raise max_tokens if its replies are cut, or write your own templates; "
    f"fairlead judge ledger --find ID shows them; {_KEPT}",
    "refused": f"use a judge that does not decline these texts; fairlead judge ledger --find ID shows why; {_KEPT}",
}
