"""When a request is sent again, after how long, and when an endpoint is given up."""

from __future__ import annotations

import random
from dataclasses import dataclass

from fairlead.llm.client import TransientError

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 30.0
_LONGEST_ACCEPTED_WAIT_S = 600.0  # a server that asks for more than this is asked again by a later run
_UNPROVEN_RETRIES = 3  # before the first reply of all: what does not work at once rarely will
_UNPROVEN_FAILURES, _PROVEN_FAILURES = 3, 50  # requests in a row without a reply that mean nobody is there


@dataclass(frozen=True)
class RetryPolicy:
    """How long one request is tried.

    Attributes:
        timeout_s: seconds until a try counts as failed.
        max_retries: tries after the first.
    """

    timeout_s: float
    max_retries: int

    def retries(self, error: TransientError, *, proven: bool) -> int:
        """How many further tries an error is worth.

        Args:
            proven: whether the endpoint has replied to anything yet.
        """
        if proven or (error.crowded and not error.timed_out):
            return self.max_retries
        return min(self.max_retries, _UNPROVEN_RETRIES)


def asks_too_long(error: TransientError) -> bool:
    """Whether the server wants a longer wait than a run should sit through."""
    return error.retry_after is not None and error.retry_after > _LONGEST_ACCEPTED_WAIT_S


def wait_before(retry: int, error: TransientError) -> float:
    """Seconds before the retry with this number (from 1).

    Exponential where the server names no time, and always with jitter, so that requests that failed together do not
    come back together.
    """
    if error.retry_after is None:
        return random.uniform(0.5, 1) * min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (retry - 1))
    return error.retry_after + random.uniform(0, 0.25) * max(error.retry_after, _FIRST_WAIT_S)


class FailureCount:
    """Counts requests in a row without a reply, to decide when to give an endpoint up.

    Attributes:
        proven: whether any request got a reply; a few failures before that are enough.
    """

    def __init__(self) -> None:
        self.proven = False
        self._in_a_row = 0

    def succeeded(self) -> None:
        self.proven, self._in_a_row = True, 0

    def failed(self) -> bool:
        """Counts a request without a reply; whether the endpoint is to be given up."""
        self._in_a_row += 1
        return self._in_a_row >= (_PROVEN_FAILURES if self.proven else _UNPROVEN_FAILURES)
