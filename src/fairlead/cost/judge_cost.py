"""Estimates what a judge, or another model that is asked by requests, would cost before any request is sent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fairlead.config.judges import EndpointSettings
from fairlead.judges.base import Judge
from fairlead.judges.panel import PanelJudge
from fairlead.judges.prompted import PromptedJudge
from fairlead.llm.client import ChatClient, ChatRequest
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.llm.store.request_key import find_stored, prepare
from fairlead.records import Answer, Comparison

CHARS_PER_TOKEN = 4  # of English, for a model without earlier replies
REPLY_TOKENS = 250  # of a model without earlier replies: a reason of a few sentences, and the verdict
_REPLY_SECONDS = 3.0  # likewise
_USUAL_CONCURRENCY = 16  # what servers usually allow, where the config allows more


@dataclass(frozen=True)
class Estimate:
    """What one judge or other model would be asked. Retries, and second requests after unreadable replies, come on top.

    Attributes:
        judge: the name of the model; of a judge with its versions.
        questions: distinct requests; both orders of a pair count, though the second is not sent if the first fails.
        stored: how many of them are already in the reply store.
        input_tokens, output_tokens: expected for the others.
        cost, most_cost: expected, and if every reply is as long as max_tokens allows; None without prices.
        basis: what the expected lengths are based on.
        max_calls, max_cost: its budget for one run of a stage.
        seconds: rough time that all calls take together; None for a model on this machine.
    """

    judge: str
    questions: int
    stored: int
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    most_cost: float | None
    basis: str
    max_calls: int | None = None
    max_cost: float | None = None
    seconds: float | None = None

    @property
    def calls(self) -> int:
        return self.questions - self.stored

    @property
    def runs(self) -> int:
        """How many runs the budget cuts the calls into; the same command goes on after each. 1 without a limit."""
        by_calls = self.calls / self.max_calls if self.max_calls else 0.0
        by_cost = self.cost / self.max_cost if self.max_cost and self.cost is not None else 0.0
        return max(1, math.ceil(by_calls), math.ceil(by_cost))

    def times(self, factor: float) -> Estimate:
        """The estimate for so many times as many questions."""

        def count(value: int) -> int:
            return round(value * factor)

        return replace(
            self,
            questions=count(self.questions),
            stored=count(self.stored),
            input_tokens=None if self.input_tokens is None else count(self.input_tokens),
            output_tokens=None if self.output_tokens is None else count(self.output_tokens),
            cost=None if self.cost is None else self.cost * factor,
            most_cost=None if self.most_cost is None else self.most_cost * factor,
            seconds=None if self.seconds is None else self.seconds * factor,
        )


def estimate(judge: Judge, items: Iterable[Comparison | Answer]) -> list[Estimate]:
    """One estimate for every prompted judge; none for judges that send no requests (rubric, reward)."""
    items = list(items)
    if isinstance(judge, PanelJudge):
        return [member_estimate for member in judge.members for member_estimate in estimate(member, items)]
    return [_of_prompted(judge, items)] if isinstance(judge, PromptedJudge) else []


@dataclass(frozen=True)
class Lengths:
    """The expected lengths of requests and replies, and what they are based on."""

    chars_per_token: float
    tokens_per_reply: float
    seconds_per_reply: float
    basis: str


def _of_prompted(judge: PromptedJudge, items: Sequence[Comparison | Answer]) -> Estimate:
    client = judge.open_client()
    try:
        sizes = _sizes(client, judge.store, (request for item in items for request in judge.requests(item)))
    finally:
        asyncio.run(client.close())
    unanswered = [size for size in sizes.values() if size is not None]
    lengths = _lengths(client, judge)
    input_tokens = round(sum(unanswered) / lengths.chars_per_token)
    output_tokens = round(lengths.tokens_per_reply * len(unanswered))
    return Estimate(
        judge=judge.name,
        questions=len(sizes),
        stored=len(sizes) - len(unanswered),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost=judge.budget.cost(input_tokens, output_tokens),
        most_cost=judge.budget.cost(input_tokens, judge.settings.max_tokens * len(unanswered)),
        basis=lengths.basis,
        max_calls=judge.budget.max_calls,
        max_cost=judge.budget.max_cost,
        seconds=_seconds(judge, len(unanswered), lengths.seconds_per_reply),
    )


def _seconds(judge: PromptedJudge, calls: int, each: float) -> float | None:
    if not isinstance(judge.settings, EndpointSettings):
        return None
    return seconds_together(calls, each, judge.settings.concurrency)


def seconds_together(calls: int, each: float, concurrency: int) -> float:
    """Seconds that so many calls take, as many at once as the config and a usual server allow."""
    return calls * each / min(concurrency, _USUAL_CONCURRENCY)


def _sizes(client: ChatClient, store: ReplyStore | None, requests: Iterable[ChatRequest]) -> dict[str, int | None]:
    """Characters of every distinct request, by key; None if the store has the reply."""
    sizes: dict[str, int | None] = {}
    for request in requests:
        prepared = prepare(client, request)
        stored = find_stored(client, store, request) is not None
        sizes[prepared.key] = None if stored else len(prepared.json)
    return sizes


def _lengths(client: ChatClient, judge: PromptedJudge) -> Lengths:
    """Lengths and times of the model's earlier judgements; plain requests are left out, because theirs differ."""
    reply = min(REPLY_TOKENS, judge.settings.max_tokens)
    return usual_lengths(client, judge.store, plain=False, reply_tokens=reply)


def usual_lengths(client: ChatClient, store: ReplyStore | None, *, plain: bool, reply_tokens: int) -> Lengths:
    """Lengths and times of the model's earlier replies.

    Args:
        plain: to plain requests, else its judgements.
        reply_tokens: assumed of a model without earlier replies.
    """
    totals = [] if store is None else store.totals()
    model = (client.model, client.endpoint)
    earlier = [row for row in totals if (row.model, row.endpoint) == model and (row.purpose == "plain") is plain]
    counted = sum(row.counted for row in earlier)
    if not counted:
        basis = f"an assumption ({CHARS_PER_TOKEN} characters a token, {reply_tokens} tokens a reply)"
        return Lengths(CHARS_PER_TOKEN, reply_tokens, _REPLY_SECONDS, basis)
    replies = sum(row.replies for row in earlier)
    return Lengths(
        sum(row.counted_chars for row in earlier) / (sum(row.input_tokens or 0 for row in earlier) or 1),
        sum(row.output_tokens or 0 for row in earlier) / counted,
        sum(row.latency * row.replies for row in earlier) / replies,
        f"{counted} earlier replies of this model",
    )
