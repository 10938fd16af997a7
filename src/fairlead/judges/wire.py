"""What the clients of endpoints share: keys that never show, and errors sorted by what helps against them."""

from __future__ import annotations

import email.utils
import math
import os
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import regex

from fairlead.errors import JudgeError
from fairlead.judges.chat import RejectedError, TransientError

_KEY_LIKE = regex.compile(r"\b(?:(?:sk|pk|gsk|xai)[-_][A-Za-z0-9_\-*.]{6,}|Bearer\s+\S+)")
_SPENT = ("insufficient_quota", "billing", "credit balance", "payment")


class Key:
    """A key from the environment, which is shown nowhere.

    Args:
        variable: name of the environment variable; None for servers without a key.

    Raises:
        JudgeError: if the variable is not set.
    """

    def __init__(self, variable: str | None, endpoint: str) -> None:
        self.variable = variable
        self.value = os.environ.get(variable, "").strip() if variable else ""
        if variable and not self.value:
            raise JudgeError(
                f"the environment variable {variable} is not set",
                where=endpoint,
                remedy=f"export {variable}=…, or name another one as api_key_env",
            )

    def hide(self, text: str) -> str:
        """A text of the endpoint's on one line, without this key and without what looks like one."""
        if self.value:
            text = text.replace(self.value, "[key]")
        return " ".join(_KEY_LIKE.sub("[key]", text).split())[:300]

    def __repr__(self) -> str:
        return f"Key({self.variable!r})"


def raise_for(
    status: int, message: str, headers: Mapping[str, str], *, key: Key, endpoint: str, model: str
) -> NoReturn:
    """Turns a status that is no success into the error that says what helps.

    Raises:
        JudgeError: if nobody will get a reply.
        TransientError: if another try may get one.
        RejectedError: if it is about this one question.
    """
    said = f"{status}: {key.hide(message)}" if message else f"status {status}"
    where = f"{endpoint} (model {model})"
    if status in (401, 403):
        remedy = f"check the key in {key.variable}" if key.variable else "it wants a key: set api_key_env"
        raise JudgeError(f"refuses the key ({said})", where=where, remedy=remedy)
    if status == 402 or (status in (400, 429) and any(word in message.lower() for word in _SPENT)):
        raise JudgeError(
            f"wants to be paid ({said})",
            where=where,
            remedy="top up the account, then run the same command again; replies that were paid for are kept",
        )
    if status in (404, 405):
        raise JudgeError(f"knows no such model or address ({said})", where=where, remedy="check model and base_url")
    if status in (408, 409, 425, 429) or status >= 500:
        crowded = status in (408, 429, 503, 529)
        raise TransientError(said, retry_after=retry_after(headers), crowded=crowded)
    raise RejectedError(said)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After, which may be a number or a date; None where it is absent or makes no sense."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name)
        if not text:
            continue
        try:
            seconds = float(text) / unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
            except (TypeError, ValueError):
                continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def integer(value: Any) -> int | None:
    """A count of tokens as endpoints give it; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def said(body: object) -> str:
    """An endpoint's own words about an error, its error code included."""
    inner = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(inner, dict):
        return " ".join(str(inner[key]) for key in ("message", "detail", "code") if inner.get(key))
    return str(inner or "")


def cause(error: BaseException) -> str:
    """The innermost reason of a connection error, such as "Connection refused"."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
