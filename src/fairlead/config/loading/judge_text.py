"""A judge as one line of text, such as `openai:gpt-4.1@http://localhost:8000/v1`, in place of its settings.

The same text is taken in the YAML, by every `--judge` option and in Python. It is read here into the settings that
would otherwise be written out, so nothing after this knows which of the two forms was used.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

from fairlead.config.loading.yaml_file import MAX_BYTES, parse_yaml
from fairlead.config.values.endpoint import check_address
from fairlead.errors import FairleadError
from fairlead.files import read_text

FORMS = "openai:MODEL, openai:MODEL@http://HOST/v1, anthropic:MODEL, local:FOLDER_OR_HUB_ID or rubric:CHECKS.yaml"
UNUSABLE_JUDGE = (
    "judge_text"  # the type of the errors raised here; their messages never quote the text, which may hold a key
)

_KINDS = ("openai", "anthropic", "local", "rubric")
_AT_ADDRESS = re.compile(r"(?P<model>.*?)@(?P<address>https?://.*)", re.DOTALL)
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def read_judge(value: Any, info: ValidationInfo) -> Any:
    """The settings that a judge's text stands for; any other value unchanged. For pydantic, before validation.

    Args:
        info: its context may name the `folder` from which the file of a rubric is found.
    """
    if not isinstance(value, str):
        return value
    return settings_of(value, Path((info.context or {}).get("folder", "")))


def expand_judges(data: Any, folder: Path) -> Any:
    """A config with every text of a judge replaced by its settings, so that an error can name a key in them.

    A text that has none of the forms is left, and is refused when the config is validated.
    """
    if isinstance(data, list):
        return [expand_judges(item, folder) for item in data]
    if not isinstance(data, dict):
        return data
    return {key: _expanded(key, value, folder) for key, value in data.items()}


def _expanded(key: Any, value: Any, folder: Path) -> Any:
    if key == "judges" and isinstance(value, list):
        return [_expanded("judge", item, folder) for item in value]
    if key != "judge" or not isinstance(value, str):
        return expand_judges(value, folder)
    try:
        return settings_of(value, folder)
    except PydanticCustomError:
        return value


def settings_of(text: str, folder: Path) -> dict[str, Any]:
    """The settings that a judge's text stands for, as they would be written in the YAML.

    Args:
        folder: the folder from which the file of a rubric is found.

    Raises:
        PydanticCustomError: if the text has none of the forms.
    """
    kind, _, rest = text.strip().partition(":")
    rest = rest.strip()
    if kind not in _KINDS:
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        meant = f", did you mean {near[0]}:…?" if near else ":"
        raise _error(f"is no judge{meant} write {FORMS}, or its settings")
    if not rest:
        raise _error(f"names nothing after the colon: write {FORMS}")
    match kind:
        case "openai":
            settings = _without_key_for_this_machine(_endpoint(rest))
        case "anthropic":
            settings = _endpoint(rest)
        case "local":
            settings = {"model": rest}
        case _:
            settings = _rubric(rest, folder)
    return {"kind": kind, **settings}


def _endpoint(rest: str) -> dict[str, Any]:
    """The model, and the address behind it."""
    match = _AT_ADDRESS.fullmatch(rest)
    if match is None:
        if "@" in rest:
            raise _error("the address after @ must begin with http:// or https://")
        return {"model": rest}
    if not match["model"]:
        raise _error(f"names no model before @: write {FORMS}")
    try:
        address = check_address(match["address"])
    except ValueError as error:
        raise _error(f"the address after @ {error}") from None
    return {"model": match["model"], "base_url": address}


def _without_key_for_this_machine(settings: dict[str, Any]) -> dict[str, Any]:
    """A server on this machine is sent no key: most want none, and OpenAI's is none of its business."""
    host = urlsplit(settings.get("base_url", "")).hostname
    return {**settings, "api_key_env": None} if host in _THIS_MACHINE else settings


def _rubric(rest: str, folder: Path) -> dict[str, Any]:
    """The settings in a YAML file: a list of checks, or a mapping with `checks`."""
    path = Path(folder) / Path(rest).expanduser()
    try:
        text = read_text(path)
        content = parse_yaml(text, where=str(path)) if len(text) <= MAX_BYTES else None
    except FairleadError as error:
        raise _error(f"the file of its checks cannot be used: {error}") from error
    if isinstance(content, list):
        content = {"checks": content}
    if not isinstance(content, dict) or "checks" not in content or content.get("kind", "rubric") != "rubric":
        raise _error(f"{path.name} holds no checks: a list of checks, or a mapping with checks, is expected")
    return content


def _error(message: str) -> PydanticCustomError:
    # The message is a value of the template: it may hold braces.
    return PydanticCustomError(UNUSABLE_JUDGE, "{message}", {"message": message})
