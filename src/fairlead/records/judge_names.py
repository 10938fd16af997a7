"""Names of judges for people. A judge's identity holds the versions of its templates and a hash of its settings."""

from __future__ import annotations

import re

_PROMPTED = re.compile(r"(?P<name>[^:]+:.+):[^:]*,[^:]*,[^:]*:[0-9a-f]{8}")
_PANEL = re.compile(r"panel:(?P<rule>\w+)\((?P<members>.*)\)")


def short_name(judge: str | None) -> str:
    """The kind and the model of a judge, without versions and hashes.

    >>> short_name("openai:gpt-4.1:pairwise-1a2b,score-3c4d,correction-5e6f:0123abcd")
    'openai:gpt-4.1'
    >>> short_name("rubric:3e324994306f026a")
    'rubric'
    """
    if judge is None:
        return "none"
    if panel := _PANEL.fullmatch(judge):
        members = [short_name(member) for member in panel["members"].split("; ")]
        return f"panel of {', '.join(members)} ({panel['rule']})"
    if prompted := _PROMPTED.fullmatch(judge):
        return prompted["name"]
    kind, _, rest = judge.partition(":")
    return kind if re.fullmatch(r"[0-9a-f]{16}", rest) else judge


def legend(judge: str | None) -> str:
    """What a short name stands for; "" where it is the whole."""
    name = short_name(judge)
    return "" if judge is None or name == judge else f"{name} is {judge}"
