"""What a language model is asked, what comes back, and the interface of whatever answers.

Knows nothing about judges: how a reply is read is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fairlead.records import Message

Purpose = Literal["pairwise", "score", "plain"]
TokenLogprobs = Sequence[tuple[str, Sequence[tuple[str, float]]]]


@dataclass(frozen=True, slots=True)
class ReplySchema:
    """The JSON that a reply should be.

    Attributes:
        name: of the schema, as endpoints want one.
        schema: a JSON schema.
    """

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request to a language model.

    Attributes:
        subject: id of what it is about: a comparison, an answer or a prompt.
        purpose: a verdict on two answers, a score of one, or plain: any text, from which nothing is read.
        template: name and hash of the template that made the messages; part of the request's key.
        variant: tells requests about one subject apart, such as the order in which its answers are shown.
        attempt: 1, or more after replies that could not be read.
        priority: requests with a smaller number are sent first.
        schema: what the reply should look like, where the endpoint can be told.
        logprobs: whether the log-probabilities of the reply's tokens are wanted.
    """

    subject: str
    purpose: Purpose
    template: str
    messages: tuple[Message, ...]
    variant: str = ""
    attempt: int = 1
    priority: int = 0
    schema: ReplySchema | None = None
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back.

    Attributes:
        finish: why the model stopped, in the endpoint's word.
        refusal: the endpoint's own statement that the model declined.
        logprobs: each token with its alternatives and their natural log-probabilities.
    """

    text: str
    finish: str
    refusal: str | None = None
    logprobs: TokenLogprobs | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class TransientError(Exception):
    """This try gave no reply; another may.

    Args:
        reason: one clause for people.
        retry_after: seconds that the server asked to wait.
        crowded: whether it says that too much was asked at once (429, 503, a time-out).
        timed_out: whether nothing came within the time limit; the server may still be working on the request.
    """

    def __init__(
        self, reason: str, *, retry_after: float | None = None, crowded: bool = False, timed_out: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after
        self.crowded, self.timed_out = crowded or timed_out, timed_out


class RejectedError(Exception):
    """The model does not take this request, and would not take it a second time.

    Args:
        reason: one clause for people.
        remedy: what helps where every request is rejected.
    """

    def __init__(self, reason: str, *, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


class UnsupportedParameterError(Exception):
    """The endpoint does not know a parameter that was optional; the request is to be sent without it."""


class ChatClient(Protocol):
    """Sends requests to one model. One object serves one event loop.

    Attributes:
        kind, model, endpoint: who answers; part of every request's key.
        truncated: the words with which it says that a reply reached the token limit.
        declined: the words with which it says that it declined.
        optional: parts of the body that it leaves out for endpoints that do not know them.
    """

    kind: str
    model: str
    endpoint: str
    truncated: frozenset[str]
    declined: frozenset[str]
    optional: frozenset[str]

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """The request as JSON values: everything that decides the reply."""

    async def send(self, body: Mapping[str, Any]) -> ChatReply:
        """Sends once.

        Raises:
            TransientError, RejectedError, UnsupportedParameterError: see there.
            JudgeError: if no request will get a reply: no key, a wrong key, no such model, nothing there.
        """

    async def close(self) -> None: ...
