"""The error for too few preference pairs, with the cause and its remedy."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.documents.pairs import PairOutcome
from fairlead.errors import DataError

_LOOK = "read its replies with fairlead judge ledger --find ID (a comparison_id of verdicts.jsonl)"
_REMEDIES = {
    PairOutcome.INCONSISTENT: "it is the judge: it contradicts itself when the two answers change places. Measure it "
    "with fairlead judge check FILE, sharpen judge.criteria, or use a stronger judge or a panel",
    PairOutcome.UNREADABLE: f"it is the judge: no verdict can be read from what it writes; {_LOOK}, raise "
    "judge.max_tokens if they are cut, or use a model that can judge",
    PairOutcome.REFUSED: f"it is the judge: it declines; {_LOOK}, or use another judge",
    PairOutcome.FAILED: "the judge did not answer: mend its endpoint, then fairlead run asks for the "
    "missing verdicts alone",
    PairOutcome.UNJUDGED: "make the verdicts of the present completions: fairlead run --force judge",
    PairOutcome.TIE: "the judge finds the answers equally good: sharpen judge.criteria, set pairs.judged_by: scores, "
    "or sample more different answers (wider sample.temperatures)",
    PairOutcome.IDENTICAL: "the answers to one prompt are all the same: take wider temperatures (sample.temperatures)",
    PairOutcome.WITHIN_MARGIN: "the verdicts are closer than pairs.margin: take a smaller one",
    PairOutcome.REVISION_IS_WORSE: "the judge prefers what was revised: write other principles (sample.constitution), "
    "or take another pairs.recipe",
    PairOutcome.EMPTY: "the model answers with nothing: look at the completions, or give other prompts",
}
_DROPPED = "mend the data that this check names, or take the check out of data_check.drop"
_FEWEST = 2  # one to train on, one to watch
_MORE = "give more prompts"
_MORE_ROWS = "give more rows in data.preferences"


def too_few_pairs(pairs: int, counts: Mapping[PairOutcome, int], dropped: Mapping[str, int]) -> DataError:
    """The error of the `pairs` stage, with the remedy of what took most of the comparisons.

    Where data_check.drop took pairs that would have been enough, the remedy is that of the drop.

    Args:
        pairs: how many came out.
        counts: what became of the comparisons; empty where the pairs were imported.
        dropped: pairs that data_check.drop left out, by check.
    """
    lost = {outcome: count for outcome, count in counts.items() if outcome is not PairOutcome.PAIR and count}
    remedies = [(count, _REMEDIES[outcome]) for outcome, count in lost.items()]
    _, remedy = max(remedies, key=lambda counted: counted[0], default=(0, _MORE if counts else _MORE_ROWS))
    if dropped and pairs + sum(dropped.values()) >= _FEWEST:
        remedy = _DROPPED  # there were enough, whatever the judge made of the other comparisons
    reasons = {**{str(outcome): count for outcome, count in sorted(counts.items())}}
    reasons |= {f"dropped as {name}": count for name, count in dropped.items()}
    listed = (
        ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in reasons.items()) or "none was imported"
    )
    return DataError(
        f"{pairs} preference pairs came out ({listed}), too few to train on and to watch", where="pairs", remedy=remedy
    )
