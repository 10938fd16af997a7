"""The forms in which preference rows are published: one function per form, from a row to a `Preference`.

Knows nothing of files: an error here says what is wrong with the row, and the caller says where the row stands.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fairlead.errors import DataError, some
from fairlead.records import Message, Preference, Prompt, Role

Row = Mapping[str, Any]
Reader = Callable[[Row], Preference]

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
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
    ("chosen-rating", "rejected-rating"),
    ("rating_chosen", "rating_rejected"),
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

    Lists of messages: the prompt is their longest common prefix of turns. Strings: it is that of whole words.
    """
    if isinstance(field(row, "chosen"), str):
        return _from_common_words(row, text_field(row, "chosen"), text_field(row, "rejected"))
    return _from_common_turns(row, messages_field(row, "chosen"), messages_field(row, "rejected"))


def hh(row: Row) -> Preference:
    """HH-RLHF's text form: `chosen` and `rejected` are "\\n\\nHuman: … \\n\\nAssistant: …" from the first turn on.

    The prompt is the longest conversation that both begin with.
    """
    return _from_common_turns(row, _transcript(row, "chosen"), _transcript(row, "rejected"))


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


def openai(row: Row) -> Preference:
    """OpenAI's preference fine-tuning: `input.messages`, and `preferred_output`, `non_preferred_output` of one turn."""
    request = field(row, "input")
    if not isinstance(request, Mapping):
        raise _wrong("input", "an object with messages", request)
    answers = [_after((), messages_field(row, key)) for key in ("preferred_output", "non_preferred_output")]
    return _preference(row, Prompt(messages_field(request, "messages"), **about(row)), *answers)


def distilabel(row: Row) -> Preference:
    """distilabel's and Argilla's records: `instruction` (or `input`, or `messages`), maybe `system_prompt`.

    With `generations` and `ratings` the best rated is chosen and the worst rejected, equal ratings give no pair, and
    generations without a rating are passed over. Otherwise `chosen_response` and `rejected_response`, or `chosen` and
    `rejected`, are strings.
    """
    prompt = Prompt(_asked(row), **about(row))
    ratings = "ratings" if "ratings" in row else "rating"
    if row.get("generations") is not None and row.get(ratings) is not None:
        return _best_and_worst(row, prompt, ratings)
    suffix = "_response" if "chosen_response" in row else ""
    return _preference(row, prompt, text_field(row, f"chosen{suffix}"), text_field(row, f"rejected{suffix}"))


def alpaca_eval(row: Row) -> Preference:
    """AlpacaEval's annotations: `preference` in [1, 2] between `output_1` (the baseline) and `output_2` (the model).

    Above 1.5 `output_2` is better. The margin is |2·preference − 3|: the judge's probability of the winner less that
    of the loser. The provenance has the model's `outcome`: win, loss, or draw, which makes no pair.
    """
    baseline, model = text_field(row, "output_1"), text_field(row, "output_2")
    prompt = Prompt.of(text_field(row, "instruction"), **about(row))
    preference = row.get("preference")
    if preference is None or not 1 <= _number(preference, "preference") <= 2:
        raise UnusableRowError("no verdict")
    outcome = "win" if preference > 1.5 else "loss" if preference < 1.5 else "draw"
    answers = (baseline, model) if outcome == "loss" else (model, baseline)
    return Preference(prompt, *answers, abs(2 * preference - 3), {"outcome": outcome})


def fairlead(row: Row) -> Preference:
    """Fairlead's own form, as `records.to_json` writes it."""
    prompt = field(row, "prompt")
    if not isinstance(prompt, Mapping):
        raise _wrong("prompt", "an object with messages", prompt)
    return _preference(row, prompt_field(row), text_field(row, "chosen"), text_field(row, "rejected"))


FORMATS: dict[str, Reader] = {
    reader.__name__: reader
    for reader in (
        standard,
        conversational,
        implicit,
        ultrafeedback,
        sharegpt,
        hh,
        openai,
        distilabel,
        alpaca_eval,
        fairlead,
    )
}

_READ = {
    "prompt",
    "chosen",
    "rejected",
    "conversations",
    "system",
    "gold",
    "cluster",
    "messages",
    "margin",
    "provenance",
}
_ALSO_READ = {
    "distilabel": {"instruction", "input", "system_prompt", "chosen_response", "rejected_response"},
    "alpaca_eval": {"instruction", "output_1", "output_2"},
}


def detect(row: Row) -> str:
    """The name of a row's form, from its columns and their types.

    Raises:
        DataError: if it is none of `FORMATS`.
    """
    for name, columns in _UNMISTAKABLE:
        if columns <= row.keys():
            return name
    prompt, chosen = row.get("prompt"), row.get("chosen")
    if "rejected" not in row or chosen is None:
        raise DataError(
            f"columns {some(map(str, row), 8)} are no known form of preferences",
            remedy=f"chosen and rejected are wanted, in one of the forms {', '.join(FORMATS)}",
        )
    if isinstance(prompt, Mapping):
        return "fairlead"
    if prompt is None and isinstance(chosen, str):
        asked = any(isinstance(row.get(name), str) for name in ("instruction", "input"))
        return "distilabel" if asked else "hh" if _TURN.match(chosen) else "implicit"
    if prompt is None:
        return "implicit"
    if isinstance(prompt, str) and isinstance(chosen, str):
        return "standard"
    if isinstance(prompt, str) and isinstance(chosen, list) and len(chosen) > 1:
        return "ultrafeedback" if set(_SCORES[0]) <= row.keys() else "implicit"
    return "conversational"


_UNMISTAKABLE = (
    ("openai", {"input", "preferred_output", "non_preferred_output"}),
    ("alpaca_eval", {"instruction", "output_1", "output_2", "preference"}),
    ("sharegpt", {"conversations", "chosen", "rejected"}),
    ("distilabel", {"chosen_response", "rejected_response"}),
    ("distilabel", {"generations", "ratings"}),
)


def leftovers(row: Row, name: str) -> dict[str, Any]:
    """The scalar columns that the reader `name` does not use: identities, sources and scores, kept as provenance."""
    read = _READ | _ALSO_READ.get(name, set())
    return {
        str(key): value
        for key, value in row.items()
        if key not in read and (isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)))
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
    cluster = row.get("cluster")
    if cluster is not None and not isinstance(cluster, str):
        raise _wrong("cluster", "a string", cluster)
    return {"gold": object_field(row, "gold"), "cluster": cluster or ""}


def object_field(row: Row, name: str) -> dict[str, Any]:
    """An optional object, or the JSON text of one: tables cannot hold objects of differing fields."""
    value = row.get(name)
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise _wrong(name, "an object", value) from error
    if value is not None and not isinstance(value, Mapping):
        raise _wrong(name, "an object", value)
    return dict(value or {})


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise _wrong(where, "an object with role and content", turn)
    names = ("from", "value") if "from" in turn else ("role", "content")
    speaker, content = (turn.get(name) for name in names)
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        content = "".join(text_field(part, "text") for part in content)
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


def _transcript(row: Row, name: str) -> tuple[Message, ...]:
    text = text_field(row, name)
    if not _TURN.match(text):
        raise _wrong(name, "a transcript that begins with a blank line and Human:", text)
    parts = _TURN.split(text)[1:]
    roles: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
    return tuple(Message(roles[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True))


def _from_common_turns(row: Row, chosen: Sequence[Message], rejected: Sequence[Message]) -> Preference:
    if tuple(chosen) == tuple(rejected):
        raise UnusableRowError("identical chosen and rejected")
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))
    prefix = tuple(message for message, _ in pairs)
    return _preference(row, Prompt(prefix, **about(row)), _after(prefix, chosen), _after(prefix, rejected))


def _from_common_words(row: Row, chosen: str, rejected: str) -> Preference:
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    while shared and not chosen[shared - 1].isspace():
        shared -= 1
    prompt = Prompt.of(chosen[:shared].rstrip(), **about(row))
    return _preference(row, prompt, chosen[shared:], rejected[shared:])


def _asked(row: Row) -> tuple[Message, ...]:
    """The turns before the answer in a record of distilabel."""
    name = next((name for name in ("instruction", "input") if row.get(name) is not None), "messages")
    turns = messages_field(row, name) if name == "messages" else (Message("user", text_field(row, name)),)
    system = next((name for name in ("system_prompt", "system") if row.get(name)), None)
    return turns if system is None else (Message("system", text_field(row, system)), *turns)


def _best_and_worst(row: Row, prompt: Prompt, ratings: str) -> Preference:
    texts, values = field(row, "generations"), field(row, ratings)
    if not isinstance(texts, list) or not isinstance(values, list) or len(texts) != len(values):
        raise _wrong(ratings, "a list, with a rating for each of the generations,", values)
    rated = {
        number: _number(value, f"{ratings}[{number}]")
        for number, value in enumerate(values)
        if value is not None and value == value and texts[number] is not None  # NaN is no rating
    }
    if len(rated) < 2:
        raise UnusableRowError("fewer than two rated generations")
    best, worst = max(rated, key=rated.__getitem__), min(rated, key=rated.__getitem__)
    if rated[best] == rated[worst]:
        raise UnusableRowError("equal scores")
    for number in (best, worst):
        if not isinstance(texts[number], str):
            raise _wrong(f"generations[{number}]", "a string", texts[number])
    models = row.get("generation_models") or row.get("model_names")
    named = isinstance(models, list) and len(models) == len(texts)
    origin = {"chosen_model": models[best], "rejected_model": models[worst]} if models and named else {}
    return Preference(prompt, texts[best], texts[worst], rated[best] - rated[worst], origin)


def _preference(row: Row, prompt: Prompt, chosen: str, rejected: str) -> Preference:
    return Preference(prompt, chosen, rejected, _margin(row), object_field(row, "provenance"))


def _margin(row: Row) -> float | None:
    """The row's `margin`, or score of chosen minus score of rejected; None where it gives neither."""
    if row.get("margin") is not None:
        return _number(row["margin"], "margin")
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
