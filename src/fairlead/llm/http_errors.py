"""What the clients of endpoints share: keys that never show, and errors sorted by what helps against them."""

from __future__ import annotations

import email.utils
import math
import os
import time
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

import regex

from fairlead.errors import JudgeError
from fairlead.llm.client import RejectedError, TransientError

_KEY_LIKE = regex.compile(r"\b(?:(?:sk|pk|gsk|xai)[-_][A-Za-z0-9_\-*.]{6,}|Bearer\s+\S+)")
_DECLINED = {"content_filter", "content_policy_violation"}
_STRUCTURE = ("response_format", "output_config", "output_format", "json_schema", "structured")
_KNOBS = (
    ("temperature", "set temperature: null in the judge section"),
    ("logprobs", "set expected_score: false in the judge section"),
)


class Key:
    """A key from the environment, which is shown nowhere.

    Args:
        variable: name of the environment variable; None for servers without a key.
    """

    def __init__(self, variable: str | None, endpoint: str) -> None:
        self.variable, self._endpoint = variable, endpoint

    @property
    def value(self) -> str:
        """The key; "" for servers without one. Looked up when it is sent: an estimate needs none.

        Raises:
            JudgeError: if the variable is not set.
        """
        if not self.variable:
            return ""
        value = os.environ.get(self.variable, "").strip()
        if not value:
            raise JudgeError(
                f"the environment variable {self.variable} is not set",
                where=self._endpoint,
                remedy=f"export {self.variable}=…, or name another one as api_key_env",
            )
        return value

    def hide(self, text: str) -> str:
        """A text of the endpoint's on one line, without this key and without what looks like one."""
        value = os.environ.get(self.variable, "").strip() if self.variable else ""
        if value:
            text = text.replace(value, "[key]")
        return " ".join(_KEY_LIKE.sub("[key]", text).split())[:300]

    def __repr__(self) -> str:
        return f"Key({self.variable!r})"


def declined(status: int, body: object) -> bool:
    """Whether an error says that the question was moderated away, which is a refusal and no fault.

    Azure's content filter answers 400 with a code that says so, OpenRouter 403 with what was flagged.
    """
    error = _error(body)
    if status == 400:
        return bool(_DECLINED & _codes(error))
    metadata = error.get("metadata")
    return status == 403 and isinstance(metadata, Mapping) and bool({"reasons", "flagged_input"} & metadata.keys())


def lacks_structure(status: int, body: object) -> bool:
    """Whether an error says that the endpoint cannot be asked for JSON of a fixed form."""
    return status in (400, 422) and any(word in said(body).lower() for word in _STRUCTURE)


def raise_for(
    status: int,
    body: object,
    headers: Mapping[str, str],
    *,
    sent: Mapping[str, Any],
    key: Key,
    endpoint: str,
    model: str,
) -> NoReturn:
    """Turns a status that is no success into the error that says what helps.

    Args:
        body: of the reply.
        sent: the body of the request.

    Raises:
        JudgeError: if nobody will get a reply.
        TransientError: if another try may get one.
        RejectedError: if it is about this one question.
    """
    message = said(body)
    shown = f"{status}: {key.hide(message)}" if message else f"status {status}"
    where = f"{endpoint} (model {model})"
    for name, remedy in _KNOBS:
        if status in (400, 422) and name in sent and name in message.lower():
            raise JudgeError(f"does not take {name} ({key.hide(message)})", where=where, remedy=remedy)
    if status in (401, 403):
        remedy = f"check the key in {key.variable}" if key.variable else "it wants a key: set api_key_env"
        raise JudgeError(f"refuses the key ({shown})", where=where, remedy=remedy)
    # A 429 that says when to come back is a limit of the rate, whatever it says of billing.
    limited = status == 429 and retry_after(headers) is not None
    spent = "insufficient_quota" in _codes(_error(body)) or "credit balance" in message.lower()
    if status == 402 or (status in (400, 429) and spent and not limited):
        raise JudgeError(
            f"wants to be paid ({shown})",
            where=where,
            remedy="top up the account, then run the same command again; replies that were paid for are kept",
        )
    if status in (404, 405):
        raise JudgeError(f"knows no such model or address ({shown})", where=where, remedy="check model and base_url")
    if status in (408, 409, 425, 429) or status >= 500:
        crowded = status in (408, 429, 503, 529)
        raise TransientError(shown, retry_after=retry_after(headers), crowded=crowded)
    raise RejectedError(shown)


class StatusError(Protocol):
    """What the clients' own errors of a status have in common."""

    @property
    def status_code(self) -> int: ...

    @property
    def body(self) -> object: ...

    @property
    def response(self) -> Any: ...


def raise_sorted(error: StatusError, sent: Mapping[str, Any], *, key: Key, endpoint: str, model: str) -> NoReturn:
    """`raise_for` of a client's error, without that error in the chain: it quotes headers and keys."""
    try:
        raise_for(
            error.status_code, error.body, error.response.headers, sent=sent, key=key, endpoint=endpoint, model=model
        )
    except Exception as sorted_error:
        raise sorted_error from None


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
    error = _error(body)
    if error:
        return " ".join(str(error[key]) for key in ("message", "detail", "code") if error.get(key))
    inner = body.get("error") if isinstance(body, Mapping) else body
    return str(inner or "")


def _error(body: object) -> Mapping[str, Any]:
    """The object that describes the error; an empty one where there is none."""
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _codes(error: Mapping[str, Any]) -> set[str]:
    """The machine-readable names of an error."""
    return {str(error[key]) for key in ("code", "type") if error.get(key)}


def cause(error: BaseException) -> str:
    """The innermost reason of a connection error, such as "Connection refused"."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
