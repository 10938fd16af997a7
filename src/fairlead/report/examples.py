"""Prompts whose answers show what DPO changed: those that differ most, one that got better and one that did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairlead.escape import code_block, shorten
from fairlead.records import Comparison, Prompt, Verdict, VerdictState

_LONGEST = 240  # characters that are quoted of a text; the page is to stay short


@dataclass(frozen=True)
class AnswerPair:
    """A held-out prompt with the answers before and after DPO.

    Attributes:
        verdict: the judge's on the answer after against the one before; None where it was not asked.
    """

    prompt: Prompt
    before: str
    after: str
    verdict: Verdict | None = None

    @property
    def difference(self) -> float:
        """Share of the words of both answers that the other lacks, from 0 for the same words to 1."""
        before, after = Counter(self.before.split()), Counter(self.after.split())
        total = before.total() + after.total()
        return 1 - 2 * (before & after).total() / total if total else 0.0


@dataclass(frozen=True)
class Example:
    """One prompt to be shown, and what it is an example of."""

    title: str
    pair: AnswerPair


def answer_pairs(
    prompts: Sequence[Prompt], before: Sequence[str], after: Sequence[str], verdicts: Mapping[str, Verdict]
) -> list[AnswerPair]:
    """Every held-out prompt with both answers.

    Args:
        verdicts: by the id of their comparison.
    """
    return [
        AnswerPair(prompt, old, new, verdicts.get(Comparison(prompt, new, old).id))
        for prompt, old, new in zip(prompts, before, after, strict=True)
    ]


def most_different(pairs: Sequence[AnswerPair]) -> list[int]:
    """The numbers of the pairs, those first whose answers differ most; of equals the earlier first."""
    return sorted(range(len(pairs)), key=lambda number: -pairs[number].difference)


def examples_of(pairs: Sequence[AnswerPair]) -> list[Example]:
    """An example of what DPO did and one of what it did not, where there are such.

    With verdicts: the clearest win, and the clearest loss or else an answer that stayed as it was. Without them: the
    answer that changed most, and one that stayed.
    """
    ordered = [pairs[number] for number in most_different(pairs)]
    unchanged = [Example("What it left as it was", pair) for pair in ordered if pair.before == pair.after]
    wins, losses = (_decided(ordered, state) for state in (VerdictState.WIN, VerdictState.LOSS))
    if any(pair.verdict is not None for pair in pairs):
        did = [Example("What it did: the judge prefers the answer after DPO", pair) for pair in wins]
        did_not = [Example("What it didn't: the judge prefers the answer before DPO", pair) for pair in losses]
    else:
        did = [Example("What it changed most", pair) for pair in ordered if pair.before != pair.after]
        did_not = []
    return [*did[:1], *(did_not or unchanged)[:1]]


def _decided(pairs: Sequence[AnswerPair], state: VerdictState) -> list[AnswerPair]:
    """Those with that verdict, the clearest first."""
    decided = [pair for pair in pairs if pair.verdict is not None and pair.verdict.state is state]
    return sorted(decided, key=lambda pair: -(pair.verdict.margin or 0.0) if pair.verdict else 0.0)


def example_markdown(example: Example, start: str) -> str:
    """The example as a section; texts stand in code blocks, because model output is not trusted.

    Args:
        start: name of the model before DPO.
    """
    pair = example.pair
    answers = [(start, pair.before), ("DPO", pair.after)]
    if pair.before == pair.after:
        answers = [(f"{start} and DPO", pair.after)]
    texts = [("Prompt", pair.prompt.text), *answers]
    blocks = [f"{title}:\n\n{code_block(shorten(text, _LONGEST))}" for title, text in texts]
    return "\n\n".join([f"## {example.title}", *blocks])
