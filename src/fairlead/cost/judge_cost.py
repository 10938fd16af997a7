"""What it will cost to ask a judge, before anything is spent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairlead.judges.base import Judge
from fairlead.judges.panel import PanelJudge
from fairlead.judges.prompted import PromptedJudge
from fairlead.llm.client import ChatClient, ChatRequest
from fairlead.llm.reply_store import ReplyStore, Totals
from fairlead.llm.request_key import find_stored, prepare
from fairlead.records import Answer, Comparison

_CHARS_PER_TOKEN = 4.0  # of English, where the ledger does not know better


@dataclass(frozen=True)
class Estimate:
    """What one judge would be asked. Corrections of unreadable replies and retries come on top.

    Attributes:
        questions: distinct requests; those of the second order are counted although a missing first saves them.
        stored: how many of them the ledger answers.
        input_tokens, output_tokens: expected of the others; None for a judge that does not tell.
        cost, most_cost: expected, and with every reply as long as max_tokens allows; None without prices.
        basis: what the expectation rests on.
    """

    judge: str
    questions: int
    stored: int
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    most_cost: float | None
    basis: str

    @property
    def calls(self) -> int:
        return self.questions - self.stored


def estimate(judge: Judge, items: Iterable[Comparison | Answer]) -> list[Estimate]:
    """One estimate for every member that is asked by requests; none for judges that compute (rubric, reward)."""
    items = list(items)
    if isinstance(judge, PanelJudge):
        return [found for member in judge.members for found in estimate(member, items)]
    return [_of_prompted(judge, items)] if isinstance(judge, PromptedJudge) else []


def _of_prompted(judge: PromptedJudge, items: Sequence[Comparison | Answer]) -> Estimate:
    client = judge.open_client()
    try:
        sizes = _missing(client, judge.store, (request for item in items for request in judge.requests(item)))
    finally:
        asyncio.run(client.close())
    to_ask = [size for size in sizes.values() if size is not None]
    earlier = _earlier(client, judge.store)
    counted = sum(row.counted for row in earlier)
    if counted:
        ratio = sum(row.counted_chars for row in earlier) / (sum(row.input_tokens or 0 for row in earlier) or 1)
        output = sum(row.output_tokens or 0 for row in earlier) / counted
        basis = f"{counted} earlier replies of this model"
    else:
        ratio, output = _CHARS_PER_TOKEN, float(judge.settings.max_tokens)
        basis = f"{ratio:g} characters a token, replies as long as max_tokens"
    read, written = round(sum(to_ask) / ratio), round(output * len(to_ask))
    return Estimate(
        judge=judge.name,
        questions=len(sizes),
        stored=len(sizes) - len(to_ask),
        input_tokens=read,
        output_tokens=written,
        cost=judge.budget.cost(read, written),
        most_cost=judge.budget.cost(read, judge.settings.max_tokens * len(to_ask)),
        basis=basis,
    )


def _missing(client: ChatClient, store: ReplyStore | None, requests: Iterable[ChatRequest]) -> dict[str, int | None]:
    """Characters of every distinct request, by key; None where the store has the reply."""
    sizes: dict[str, int | None] = {}
    for request in requests:
        prepared = prepare(client, request)
        stored = find_stored(client, store, request) is not None
        sizes[prepared.key] = None if stored else len(prepared.json)
    return sizes


def _earlier(client: ChatClient, store: ReplyStore | None) -> list[Totals]:
    """What the store knows of the model's judgements; its other replies, to plain requests, have other lengths."""
    totals = [] if store is None else store.totals()
    model = (client.model, client.endpoint)
    return [row for row in totals if (row.model, row.endpoint) == model and row.purpose != "plain"]
