"""What a judge that is a language model is asked, and the seam to whatever answers: an endpoint or a local model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Form = Literal["pairwise", "score"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the conversation with a judge."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a judge.

    Attributes:
        id: the comparison or answer it is about, the order shown, and whether it is a correction.
        form: what is asked for.
        template: name and hash of the template that made it.
        order: its place in the run; earlier questions are sent first.
    """

    id: str
    form: Form
    template: str
    turns: tuple[Turn, ...]
    order: int = 0


@dataclass(frozen=True, slots=True)
class RawReply:
    """What came back, unread.

    Attributes:
        finish: why the judge stopped, in the endpoint's word.
        refusal: the endpoint's own statement that the judge declined.
        logprobs: each token with its alternatives and their natural log-probabilities.
    """

    text: str
    finish: str
    refusal: str | None = None
    logprobs: Sequence[tuple[str, Sequence[tuple[str, float]]]] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class TransientError(Exception):
    """This try gave no reply; another may.

    Args:
        reason: one clause for people.
        retry_after: seconds that the server asked to wait.
        crowded: whether it says that too much was asked at once (429, 503, a time-out).
    """

    def __init__(self, reason: str, *, retry_after: float | None = None, crowded: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.retry_after, self.crowded = reason, retry_after, crowded


class RejectedError(Exception):
    """The endpoint does not take this question, and would not take it a second time."""


class ChangedError(Exception):
    """The endpoint does not know a parameter that was optional; the question is to be put without it."""


class Chat(Protocol):
    """A conversation partner. One object serves one event loop.

    Attributes:
        kind, model, endpoint: who answers; part of every request's key.
        cut: the words with which it says that a reply reached the token limit.
        declined: the words with which it says that it declined.
        optional: parts of the body that it leaves out for endpoints that do not know them.
    """

    kind: str
    model: str
    endpoint: str
    cut: frozenset[str]
    declined: frozenset[str]
    optional: frozenset[str]

    def body(self, question: Question) -> Mapping[str, Any]:
        """The request as JSON values: everything that decides the reply."""

    async def send(self, body: Mapping[str, Any]) -> RawReply:
        """Asks once.

        Raises:
            TransientError, RejectedError, ChangedError: see there.
            JudgeError: if nobody will get a reply: no key, a refused key, no such model, nothing there.
        """

    async def close(self) -> None: ...


@dataclass(slots=True)
class Purse:
    """What has been spent and may be spent; one purse serves all that one judge is asked in one stage.

    Attributes:
        max_calls, max_cost: limits; None is none.
        input_price, output_price: of a million tokens; None where the cost is not known.
        in_flight: calls under way; `reserved` is what they may cost at most.
    """

    max_calls: int | None = None
    max_cost: float | None = None
    input_price: float | None = None
    output_price: float | None = None
    calls: int = 0
    spent: float = 0.0
    reserved: float = 0.0
    in_flight: int = 0

    def reserve(self, most: float) -> None:
        """Sets aside what a call can cost at most."""
        self.calls += 1
        self.in_flight += 1
        self.reserved += most

    def release(self, most: float) -> None:
        """The call has ended; nothing is set aside when none is left, whatever the sums of floats say."""
        self.in_flight -= 1
        self.reserved = self.reserved - most if self.in_flight else 0.0

    def cost(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        """Price of a reply; None where prices or tokens are not known."""
        if self.input_price is None or self.output_price is None or input_tokens is None or output_tokens is None:
            return None
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6

    def most(self, body_bytes: int, max_tokens: int) -> float:
        """What a request can cost at most: no tokenizer of bytes makes more tokens than there are bytes."""
        return self.cost(body_bytes, max_tokens) or 0.0
