"""A judge that is a language model: asks in both orders, reads the reply, asks once more where it cannot be read."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Self, TypeVar

from fairlead.config.judges import PromptedSettings
from fairlead.config.values.criteria import JudgedCriterion
from fairlead.errors import DataError, JudgeError
from fairlead.judges import prompt_injection, reply_parser, reply_schemas, templates
from fairlead.judges.expected_score import expected_score
from fairlead.llm.async_map import async_map_ordered
from fairlead.llm.budget import Budget
from fairlead.llm.client import ChatClient, ChatRequest
from fairlead.llm.rate_limit import Concurrency
from fairlead.llm.retry import RetryPolicy
from fairlead.llm.session import NoReplyError, Session
from fairlead.llm.store.reply_store import ReplyStore, StoredReply
from fairlead.llm.usage import UsageCounter
from fairlead.records import (
    SOURCE,
    Answer,
    Comparison,
    Message,
    Prompt,
    Score,
    ScoreState,
    Verdict,
    VerdictState,
    content_id,
)
from fairlead.text.encoding import storable

T = TypeVar("T")

_SHOWN = 300  # characters of a reply that a reason keeps; the ledger has all of it
_FIRST_JUDGEMENTS = 20  # if none of the first so many can be read, none will be

_SWAPPED: dict[reply_parser.Choice, reply_parser.Choice] = {"A": "B", "B": "A", "tie": "tie"}
_STATES: dict[reply_parser.Choice, VerdictState] = {
    "A": VerdictState.WIN,
    "B": VerdictState.LOSS,
    "tie": VerdictState.TIE,
}
_WORST_FIRST = (ScoreState.FAILED, ScoreState.REFUSED, ScoreState.UNREADABLE)


@dataclass(frozen=True)
class _Reply(Generic[T]):
    """What the judge said to one request, after a correction where it was needed: a value, or why there is none."""

    value: T | None
    state: ScoreState
    reason: str
    calls: tuple[str, ...]


class PromptedJudge:
    """Asks a language model for verdicts and scores.

    Args:
        settings: criteria, templates and limits of length.
        folder: the project folder, for the user's own templates.
        open_client: makes the client; called once per stream, in its event loop.
        store: where replies are kept; None keeps none.
        budget: what a run may spend.
        retry_policy: how long a request is tried.
        concurrency: most requests under way at once.
        expected_scores: read scores from the log-probabilities where the reply has them.
    """

    def __init__(
        self,
        settings: PromptedSettings,
        folder: Path,
        open_client: Callable[[], ChatClient],
        *,
        kind: str,
        model: str,
        store: ReplyStore | None,
        budget: Budget,
        retry_policy: RetryPolicy,
        concurrency: int,
        expected_scores: bool = False,
    ) -> None:
        self.settings, self.store, self.budget = settings, store, budget
        self.open_client = open_client
        self._folder, self._identity, self._shows_source = folder, f"{kind}:{model}", False
        self._retry_policy, self._concurrency, self._expected_scores = retry_policy, concurrency, expected_scores
        self._pairwise = templates.load("pairwise", settings.pairwise_template, folder)
        self._score = templates.load("score", settings.score_template, folder)
        self._correction = templates.load("correction", settings.correction_template, folder)
        self.name = self._name()
        self.usage = UsageCounter()
        self._learned: float | None = None
        self._judged = self._readable = 0

    def _name(self) -> str:
        versions = f"{self._pairwise.version},{self._score.version},{self._correction.version}"
        return f"{self._identity}:{versions}:{content_id(_identity(self.settings))[:8]}"

    def by_criterion(self, criterion: JudgedCriterion) -> Self:
        """The same judge, asked by one criterion alone; both spend one budget, keep their replies in one store
        and are counted together.

        Raises:
            ConfigError: if the criterion needs the source and the user's own template does not show it.
        """
        judge = copy.copy(self)
        judge.settings = self.settings.model_copy(update={"criteria": criterion.text})
        judge._shows_source = criterion.source
        if criterion.source:
            judge._score = templates.load("sourced_score", self.settings.score_template, self._folder)
        judge.name = judge._name()
        judge._judged = judge._readable = 0
        return judge

    def compare(self, items: Iterable[Comparison]) -> Iterator[Verdict]:
        """Verdicts in the order of the items.

        Raises:
            JudgeError: if the judge cannot be used at all.
            BudgetError: if the budget is spent; what came in before is stored.
        """
        return async_map_ordered(items, self._open, self._verdict)

    def score(self, items: Iterable[Answer]) -> Iterator[Score]:
        """Scores in the order of the items; raises as `compare` does."""
        return async_map_ordered(items, self._open, self._scored)

    def _open(self) -> Session:
        gate = Concurrency(self._concurrency, *([] if self._learned is None else [self._learned]))
        return Session(self.open_client(), self.store, self.budget, self._retry_policy, gate)

    def requests(self, item: Comparison | Answer, priority: int = 0) -> list[ChatRequest]:
        """The requests that an item is judged by: one per order shown, or one for a score."""
        if isinstance(item, Answer):
            return [self._score_request(item, priority)]
        orders = ("ab", "ba") if self.settings.both_orders else ("ab",)
        return [self._pair_request(item, order, priority) for order in orders]

    def _pair_request(self, item: Comparison, order: str, priority: int) -> ChatRequest:
        prompt, first, second = self._texts(item.prompt.text, item.first, item.second)
        a, b = (first, second) if order == "ab" else (second, first)
        messages = self._pairwise.messages(
            prompt=prompt,
            answer_a=a,
            answer_b=b,
            fence=prompt_injection.delimiter(prompt, first, second),
            criteria=self.settings.criteria,
        )
        return ChatRequest(
            item.id,
            "pairwise",
            self._pairwise.version,
            messages,
            variant=order,
            priority=priority,
            schema=reply_schemas.PAIRWISE,
        )

    def _score_request(self, item: Answer, priority: int) -> ChatRequest:
        source_text = [_source_of(item.prompt)] if self._shows_source else []
        prompt, answer, *source = self._texts(item.prompt.text, item.text, *source_text)
        messages = self._score.messages(
            prompt=prompt,
            answer=answer,
            source=source[0] if source else "",
            fence=prompt_injection.delimiter(prompt, answer, *source),
            criteria=self.settings.criteria,
        )
        return ChatRequest(
            item.id,
            "score",
            self._score.version,
            messages,
            priority=priority,
            schema=reply_schemas.SCORE,
            logprobs=self._expected_scores,
        )

    def _texts(self, *texts: str) -> list[str]:
        return [prompt_injection.truncate_middle(storable(text), self.settings.max_chars) for text in texts]

    async def _verdict(self, session: Session, number: int, item: Comparison) -> Verdict:
        replies: list[_Reply[reply_parser.Choice]] = []
        for request in self.requests(item, number):
            reply: _Reply[reply_parser.Choice] = await self._ask(session, request, _read_choice)
            if request.variant == "ba" and reply.value is not None:
                reply = replace(reply, value=_SWAPPED[reply.value])
            replies.append(reply)
            if reply.value is None:  # the other order could not make a verdict of it, and would cost
                break
        state = _joined(replies)
        self._count(session, readable=_is_readable(replies[-1]), sample=replies[-1].reason)
        notes = prompt_injection.flags_of(item)
        reason = " | ".join([*notes.values(), *(reply.reason for reply in replies)])
        calls = tuple(call for reply in replies for call in reply.calls)
        votes = tuple(_STATES[reply.value] for reply in replies if reply.value is not None)
        orders = votes if len(votes) > 1 else ()
        return Verdict(item.id, state, self.name, None, reason, calls, orders, tuple(notes))

    async def _scored(self, session: Session, number: int, item: Answer) -> Score:
        [request] = self.requests(item, number)
        reply = await self._ask(session, request, self._read_score)
        self._count(session, readable=_is_readable(reply), sample=reply.reason)
        notes = prompt_injection.flags_of(item)
        reason = " | ".join([*notes.values(), reply.reason])
        return Score(item.id, reply.state, self.name, reply.value, reason, reply.calls, tuple(notes))

    async def _ask(
        self, session: Session, request: ChatRequest, read: Callable[[StoredReply, bool], T | None]
    ) -> _Reply[T]:
        """Asks, and once more with a correction where the reply cannot be read."""
        declined = session.client.declined
        calls: tuple[str, ...] = ()
        text = ""
        for corrected in (False, True):
            try:
                reply = await session.ask(self._corrected(request, text) if corrected else request)
            except NoReplyError as error:
                return _Reply(None, ScoreState.FAILED, str(error), calls)
            text = reply.text
            calls += (reply.key,)
            self.usage.add(reply)
            if reply.refusal is not None or reply.finish in declined:
                return _Reply(None, ScoreState.REFUSED, _short(reply.refusal or reply.text), calls)
            value = _read(session, reply, read)
            if value is not None:
                return _Reply(value, ScoreState.SCORED, _short(reply.text), calls)
            if reply_parser.is_refusal(reply.text):
                return _Reply(None, ScoreState.REFUSED, _short(reply.text), calls)
        return _Reply(None, ScoreState.UNREADABLE, _short(text) or "an empty reply", calls)

    def _corrected(self, request: ChatRequest, reply: str) -> ChatRequest:
        """The request with the unreadable reply and what was wrong with it."""
        text = prompt_injection.truncate_middle(reply, 2000) if reply.strip() else "(an empty reply)"
        correction = self._correction.messages(form=request.purpose)
        return replace(
            request,
            template=f"{request.template}+{self._correction.version}",
            messages=(*request.messages, Message("assistant", text), *correction),
            attempt=request.attempt + 1,
        )

    def _read_score(self, reply: StoredReply, cut: bool) -> float | None:
        value = reply_parser.read_score(reply.text, cut=cut)
        if value is not None and self._expected_scores and reply.logprobs is not None:
            return expected_score(json.loads(reply.logprobs), value)
        return value

    def _count(self, session: Session, *, readable: bool, sample: str) -> None:
        """Stops if no reply of the judge so far could be read, before the remaining requests are paid for."""
        self._learned = session.gate.limit
        self._judged += 1
        self._readable += readable
        if self._judged == _FIRST_JUDGEMENTS and self._readable == 0:
            raise JudgeError(
                f"none of its first {_FIRST_JUDGEMENTS} judgements can be read, the last is {sample[:120]!r}",
                where=self.name,
                remedy="use a model that can judge, or raise max_tokens if its replies are cut",
            )


def _source_of(prompt: Prompt) -> str:
    """The text that an answer was to rest on.

    Raises:
        DataError: if its row has none.
    """
    source = prompt.gold.get(SOURCE)
    if not isinstance(source, str) or not source.strip():
        raise DataError(
            "has no source text, by which its answer is to be judged",
            where=f"prompt {prompt.id} ({prompt.text[:60]!r})",
            remedy="give its row a field source (or context), or take a criterion that needs none",
        )
    return source


def _read(session: Session, reply: StoredReply, read: Callable[[StoredReply, bool], T | None]) -> T | None:
    """The judgement in a stored reply; None if it has none or the parser fails on it."""
    try:
        value = read(reply, reply.finish in session.client.truncated)
    except Exception:
        value = None
    session.note_reading(reply, _as_word(value))
    return value


def _as_word(value: object) -> str | None:
    """What was read, as the ledger shows it: A, B or tie in the order shown, or a number."""
    if value is None:
        return None
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read_choice(reply: StoredReply, cut: bool) -> reply_parser.Choice | None:
    return reply_parser.read_choice(reply.text, cut=cut)


def _is_readable(reply: _Reply[T]) -> bool:
    return reply.state not in (ScoreState.UNREADABLE, ScoreState.REFUSED)


def _joined(replies: list[_Reply[reply_parser.Choice]]) -> VerdictState:
    """The state of a pair from its orders: the worst that happened, else their verdict if they agree."""
    for state in _WORST_FIRST:
        if any(reply.state is state for reply in replies):
            return VerdictState(state)
    choices = {reply.value for reply in replies if reply.value is not None}
    return _STATES[choices.pop()] if len(choices) == 1 else VerdictState.INCONSISTENT


def _identity(settings: PromptedSettings) -> dict[str, object]:
    """The settings that can change a verdict; speed and price are left out."""
    left_out = {
        "concurrency", "timeout_s", "max_retries", "max_calls", "max_cost", "api_key_env", "batch_size",
        "price_per_million_input_tokens", "price_per_million_output_tokens",
    }  # fmt: skip
    return settings.model_dump(mode="json", exclude=left_out)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
