"""Fields that every section about an endpoint has: its address, the variable that holds its key, and its prices."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from fairlead.config.base import NeverQuoted, NotInKey

_KEY = re.compile(r"(?:^|/)(?:sk|pk|gsk|xai)[-_]\w{8,}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


def check_address(url: str) -> str:
    """The address of an endpoint as it is.

    Raises:
        ValueError: if it is none, or holds what may be a key; the message does not quote it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # its message would quote the address
        raise ValueError("is not a valid URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must begin with http:// or https:// and a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no key, query or fragment: keys come from the environment only, see api_key_env")
    if _KEY.search(parts.path) or not url.isprintable():
        raise ValueError("must be the address alone: keys come from the environment only, see api_key_env")
    return url


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError(
            "must be the name of an environment variable, in capitals, such as OPENAI_API_KEY, and not the key itself"
        )
    return name


EndpointUrl = Annotated[str, AfterValidator(check_address)]
KeyVariable = Annotated[str, AfterValidator(_variable)]
OptionalUrl = Annotated[EndpointUrl | None, NotInKey, NeverQuoted]
OptionalKeyVariable = Annotated[KeyVariable | None, NotInKey, NeverQuoted]


def check_prices(input_price: float | None, output_price: float | None, max_cost: float | None) -> None:
    """Both prices or neither, and prices where costs are to be bounded.

    Raises:
        ValueError: naming the keys.
    """
    if (input_price is None) != (output_price is None):
        raise ValueError("give both price_per_million_input_tokens and price_per_million_output_tokens")
    if max_cost is not None and input_price is None:
        raise ValueError(
            "max_cost needs both prices, price_per_million_input_tokens and price_per_million_output_tokens, "
            "to be counted"
        )
