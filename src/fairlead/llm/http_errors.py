"""What the clients of endpoints share: keys that are never shown, and HTTP errors sorted by what helps against them."""

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
from fairlead.llm.endpoint import Endpoint

_KEY_LIKE = regex.compile(r"\b(?:(?:sk|pk|gsk|xai)[-_][A-Za-z0-9_\-*.]{6,}|Bearer\s+\S+)")
_DECLINED = {"content_filter", "content_policy_violation"}
_STRUCTURE = ("response_format", "output_config", "output_format", "json_schema", "structured")
_OPTIONS = (("temperature", "set temperature: null"), ("logprobs", "set expected_score: false"))
_TOO_LONG = regex.compile(
    r"context[ _-]?(?:length|window|size)|too (?:long|many tokens)|maximum context", regex.IGNORECASE
)
_MOST_TOKENS = 2**53


class ApiKey:
    """A key from the environment, which is never shown.

    Args:
        variable: name of the environment variable; None for servers without a key.
    """

    def __init__(self, variable: str | None, endpoint: str) -> None:
        self.variable, self._endpoint = variable, endpoint

    @property
    def value(self) -> str:
        """The key; "" for servers without one. Looked up when it is sent: an estimate needs none.

        Raises:
            JudgeError: if the variable is not set, or holds what cannot be sent.
        """
        if not self.variable:
            return ""
        value = os.environ.get(self.variable, "").strip()
        if not value:
            raise JudgeError(
                f"the environment variable {self.source} is not set",
                where=self._endpoint,
                remedy="export it with the key, or name another one as api_key_env",
            )
        if not (value.isascii() and value.isprintable()):
            raise JudgeError(
                f"the key in {self.source} has characters that cannot be sent in an HTTP header",
                where=self._endpoint,
                remedy="export the key alone, without quotes or line breaks",
            )
        return value

    @property
    def source(self) -> str:
        """The variable's name for messages; a name that may itself be a key, pasted by mistake, is not shown."""
        name = self.variable or ""
        looks_like_a_name = name.isupper() and ("_" in name or len(name) < 16)
        return name if name in os.environ or looks_like_a_name else "that api_key_env names"

    def hide(self, text: str) -> str:
        """A text of the endpoint's on one line, without this key and without what looks like one."""
        value = os.environ.get(self.variable, "").strip() if self.variable else ""
        if value:
            text = text.replace(value, "[key]")
        return " ".join(_KEY_LIKE.sub("[key]", text).split())[:300]

    def __repr__(self) -> str:
        return f"ApiKey({self.source!r})"


def is_moderated(status: int, body: object) -> bool:
    """Whether an error says that the request was moderated away, which is a refusal and no fault.

    Azure's content filter answers 400 with a code that says so, OpenRouter 403 with what was flagged.
    """
    error = _error(body)
    if status == 400:
        return bool(_DECLINED & _codes(error))
    metadata = error.get("metadata")
    return status == 403 and isinstance(metadata, Mapping) and bool({"reasons", "flagged_input"} & metadata.keys())


def lacks_structured_output(status: int, body: object) -> bool:
    """Whether an error says that the endpoint cannot be asked for JSON of a fixed form."""
    return status in (400, 422) and any(word in message_of(body).lower() for word in _STRUCTURE)


def invalid_address(endpoint: Endpoint) -> JudgeError:
    """The error for a base_url that no client takes; it is not quoted, because people paste keys into it."""
    return JudgeError("base_url is not a valid URL", where=f"{endpoint.section} (model {endpoint.model})")


class StatusError(Protocol):
    """What the providers' own errors of a status have in common."""

    @property
    def status_code(self) -> int: ...

    @property
    def body(self) -> object: ...

    @property
    def response(self) -> Any: ...


def raise_for_error(
    error: StatusError, sent: Mapping[str, Any], *, key: ApiKey, endpoint: Endpoint, address: str
) -> NoReturn:
    """Turns a status that is no success into the error that says what helps, without the provider's error in its
    chain: that one quotes headers and keys.

    Args:
        sent: the body of the request.
        address: of the endpoint, as it is shown.

    Raises:
        JudgeError: if no request will get a reply.
        TransientError: if another try may get one.
        RejectedError: if it is about this one request.
    """
    status, message = error.status_code, message_of(error.body)
    headers = error.response.headers
    text = f"{status}: {key.hide(message)}" if message else f"status {status}"
    where = f"{address} (model {endpoint.model})"
    _raise_for_option(status, message, sent, key, where, endpoint.section)
    if status in (401, 403):
        remedy = f"check the key in {key.source}" if key.variable else "the endpoint needs a key: set api_key_env"
        raise JudgeError(f"authentication failed ({text})", where=where, remedy=remedy) from None
    # A 429 that says when to come back is a limit of the rate, whatever it says of billing.
    limited = status == 429 and retry_after(headers) is not None
    spent = "insufficient_quota" in _codes(_error(error.body)) or "credit balance" in message.lower()
    if status == 402 or (status in (400, 429) and spent and not limited):
        raise JudgeError(
            f"payment required ({text})",
            where=where,
            remedy="top up the account, then run the same command again; replies that were paid for are kept",
        ) from None
    if status in (404, 405):
        raise JudgeError(f"no such model or address ({text})", where=where, remedy="check model and base_url") from None
    if status in (408, 409, 425, 429) or status >= 500:
        crowded = status in (408, 429, 503, 529)
        raise TransientError(text, retry_after=retry_after(headers), crowded=crowded) from None
    raise RejectedError(text, remedy=_remedy(status, message, endpoint.section)) from None


def _raise_for_option(
    status: int, message: str, sent: Mapping[str, Any], key: ApiKey, where: str, section: str
) -> None:
    """Raises where the endpoint complains about an option that the settings can leave out."""
    for name, remedy in _OPTIONS:
        if status in (400, 422) and name in sent and name in message.lower():
            raise JudgeError(
                f"{name} is not supported ({key.hide(message)})", where=where, remedy=f"{remedy} in {section}"
            ) from None


def _remedy(status: int, message: str, section: str) -> str:
    """What helps where every request is rejected."""
    if status == 413 or _TOO_LONG.search(message):
        return f"lower max_tokens in {section}, shorten the texts, or take a model with a longer context"
    return f"check {section} against what the endpoint accepts"


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


def token_count(value: Any) -> int | None:
    """A count of tokens as endpoints give it; None for anything else, such as a number that no database stores."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None


def message_of(body: object) -> str:
    """What an endpoint says of an error, its error code included."""
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


def innermost_reason(error: BaseException) -> str:
    """The innermost reason of a connection error, such as "Connection refused"."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
