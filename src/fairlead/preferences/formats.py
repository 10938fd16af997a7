"""The forms in which preference rows are published: one function per form, from a row to a `Preference`.

Knows nothing of files: an error here says what is wrong with the row, and the caller says where the row stands.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fairlead.errors import DataError, some
from fairlead.records import Message, Preference, Prompt, Role, preference_from_json

Row = Mapping[str, Any]
Reader = Callable[[Row], Preference]

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
}
_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
)
_TURN = re.compile(r"\n\n(Human|Assistant):")


class UnusableRowError(Exception):
    """A well-formed row that holds no preference; the message is the reason under which it is counted."""


def standard(row: Row) -> Preference:
    """TRL's standard form: `prompt`, `chosen` and `rejected` are strings."""
    prompt = Prompt.of(text_field(row, "prompt"), **about(row))
    return _preference(row, prompt, text_field(row, "chosen"), text_field(row, "rejected"))


def conversational(row: Row) -> Preference:
    """TRL's conversational form: `prompt`, `chosen` and `rejected` are lists of messages (the prompt may be a string).

    Answers that repeat the prompt's turns before the last one are read as well.
    """
    prompt = prompt_field(row)
    answers = [_after(prompt.messages, messages_field(row, key)) for key in ("chosen", "rejected")]
    return _preference(row, prompt, *answers)


def implicit(row: Row) -> Preference:
    """TRL's implicit-prompt form: `chosen` and `rejected` each begin with the prompt.

    Lists of messages: the prompt is their longest common prefix of turns. Strings: the turns of a
    "\\n\\nHuman: … \\n\\nAssistant: …" transcript, or else the longest common prefix of whole words.
    """
    if isinstance(field(row, "chosen"), str):
        chosen, rejected = text_field(row, "chosen"), text_field(row, "rejected")
        if not (_TURN.match(chosen) and _TURN.match(rejected)):
            return _from_common_words(row, chosen, rejected)
        turns = _transcript(chosen), _transcript(rejected)
    else:
        turns = messages_field(row, "chosen"), messages_field(row, "rejected")
    if turns[0] == turns[1]:
        raise UnusableRowError("identical chosen and rejected")
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*turns, strict=False))
    prefix = tuple(message for message, _ in pairs)
    return _preference(row, Prompt(prefix, **about(row)), *(_after(prefix, whole) for whole in turns))


def ultrafeedback(row: Row) -> Preference:
    """The schema of HuggingFaceH4/ultrafeedback_binarized: implicit prompt in messages, with both scores."""
    for column in _SCORES[0]:
        field(row, column)
    return implicit(row)


def sharegpt(row: Row) -> Preference:
    """ShareGPT style: `conversations` of {from, value}, `chosen` and `rejected` one such turn each, maybe `system`."""
    turns = messages_field(row, "conversations")
    if row.get("system"):
        turns = (Message("system", text_field(row, "system")), *turns)
    answers = [_after((), (_message(field(row, key), key),)) for key in ("chosen", "rejected")]
    return _preference(row, Prompt(turns, **about(row)), *answers)


def fairlead(row: Row) -> Preference:
    """Fairlead's own form, as `records.to_json` writes it."""
    prompt = field(row, "prompt")
    text_field(row, "chosen"), text_field(row, "rejected")
    if not isinstance(prompt, Mapping):
        raise _wrong("prompt", "an object with messages", prompt)
    prompt_field(row)
    margin, provenance = row.get("margin"), row.get("provenance", {})
    if margin is not None:
        _number(margin, "margin")
    if not isinstance(provenance, Mapping):
        raise _wrong("provenance", "an object", provenance)
    return preference_from_json(row)


FORMATS: dict[str, Reader] = {
    reader.__name__: reader for reader in (standard, conversational, implicit, ultrafeedback, sharegpt, fairlead)
}

_READ = {"prompt", "chosen", "rejected", "conversations", "system", "gold", "cluster", "messages"}


def detect(row: Row) -> str:
    """The name of a row's form, from its columns and their types.

    Raises:
        DataError: if it is none of `FORMATS`.
    """
    prompt, chosen = row.get("prompt"), row.get("chosen")
    if "rejected" not in row or chosen is None:
        raise DataError(
            f"columns {some(map(str, row), 8)} are no known form of preferences",
            remedy=f"chosen and rejected are wanted, in one of the forms {', '.join(FORMATS)}",
        )
    if "conversations" in row:
        return "sharegpt"
    if isinstance(prompt, Mapping):
        return "fairlead"
    if prompt is None:
        return "implicit"
    if isinstance(prompt, str) and isinstance(chosen, str):
        return "standard"
    if isinstance(prompt, str) and isinstance(chosen, list) and len(chosen) > 1:
        return "ultrafeedback" if set(_SCORES[0]) <= row.keys() else "implicit"
    return "conversational"


def leftovers(row: Row) -> dict[str, Any]:
    """The scalar columns that no reader uses: identities, sources and scores, kept as provenance."""
    return {
        str(key): value
        for key, value in row.items()
        if key not in _READ and (isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)))
    }


def field(row: Row, name: str) -> Any:
    """A field that must be there and not null."""
    if row.get(name) is None:
        raise DataError(
            f"{'null' if name in row else 'no'} field {name!r}",
            remedy=f"the row has {some(map(str, row), 8) or 'no fields'}",
        )
    return row[name]


def text_field(row: Row, name: str) -> str:
    value = field(row, name)
    if not isinstance(value, str):
        raise _wrong(name, "a string", value)
    return value


def messages_field(row: Row, name: str) -> tuple[Message, ...]:
    """Turns as {role, content} or {from, value}; at least one."""
    value = field(row, name)
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise _wrong(name, "a list of messages, not empty,", value)
    return tuple(_message(turn, f"{name}[{number}]") for number, turn in enumerate(value))


def prompt_field(row: Row) -> Prompt:
    """`prompt` as a string, as messages, or as an object with messages, with the row's gold and cluster."""
    value = field(row, "prompt")
    if isinstance(value, str):
        return Prompt.of(value, **about(row))
    if isinstance(value, Mapping):
        return Prompt(messages_field(value, "messages"), **about(value))
    return Prompt(messages_field(row, "prompt"), **about(row))


def about(row: Row) -> dict[str, Any]:
    """The optional `gold` and `cluster` of a row, as keywords of `Prompt`."""
    gold, cluster = row.get("gold"), row.get("cluster")
    if gold is not None and not isinstance(gold, Mapping):
        raise _wrong("gold", "an object", gold)
    if cluster is not None and not isinstance(cluster, str):
        raise _wrong("cluster", "a string", cluster)
    return {"gold": dict(gold or {}), "cluster": cluster or ""}


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise _wrong(where, "an object with role and content", turn)
    names = ("from", "value") if "from" in turn else ("role", "content")
    speaker, content = (turn.get(name) for name in names)
    if not isinstance(speaker, str) or speaker not in _ROLES:
        raise _wrong(f"{where}.{names[0]}", f"one of {', '.join(_ROLES)}", speaker)
    if not isinstance(content, str):
        raise _wrong(f"{where}.{names[1]}", "a string", content)
    return Message(_ROLES[speaker], content)


def _after(prompt: Sequence[Message], turns: Sequence[Message]) -> str:
    """The one assistant answer in `turns`, which may repeat the prompt before it."""
    rest = turns[len(prompt) :] if tuple(turns[: len(prompt)]) == tuple(prompt) else turns
    if len(rest) != 1:
        raise UnusableRowError("chosen and rejected are not one answer each to the same prompt")
    if rest[0].role != "assistant":
        raise UnusableRowError("the last turn is not the assistant's")
    return rest[0].content


def _transcript(text: str) -> tuple[Message, ...]:
    parts = _TURN.split(text)[1:]
    roles: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
    return tuple(Message(roles[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True))


def _from_common_words(row: Row, chosen: str, rejected: str) -> Preference:
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    while shared and not chosen[shared - 1].isspace():
        shared -= 1
    prompt = Prompt.of(chosen[:shared].rstrip(), **about(row))
    return _preference(row, prompt, chosen[shared:], rejected[shared:])


def _preference(row: Row, prompt: Prompt, chosen: str, rejected: str) -> Preference:
    return Preference(prompt, chosen, rejected, _margin(row))


def _margin(row: Row) -> float | None:
    """Score of chosen minus score of rejected, None where the row does not give both."""
    for names in _SCORES:
        better, worse = (row.get(name) for name in names)
        if better is not None and worse is not None:
            return _number(better, names[0]) - _number(worse, names[1])
    return None


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(name, "a finite number", value)
    return float(value)


def _wrong(name: str, wanted: str, value: Any) -> DataError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    return DataError(f"field {name!r} must be {wanted}, not {shown}")
