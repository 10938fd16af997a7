"""Answers and rows of files that other systems wrote: a JSON array or one JSON object per line.

Everything in them is checked by type, with the file and the line in the error; nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from fairlead.errors import DataError, some
from fairlead.files import read_text
from fairlead.records import Message, Prompt

Format = Literal["alpaca_eval", "jsonl"]
Row = tuple[str, Mapping[str, Any]]
_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class ForeignAnswer:
    """An answer that a model made elsewhere.

    Attributes:
        prompt: what it was asked.
        text: its answer; None where the file says null, so an answer that is missing and not an empty one.
        model: its name, "" where the file gives none.
        where: file and row, for errors.
    """

    prompt: Prompt
    text: str | None
    model: str
    where: str


def check_format(name: str) -> Format:
    for known in get_args(Format):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise DataError(f"unknown format {name!r}", remedy=f"one of {', '.join(get_args(Format))} is wanted")


def read_rows(path: Path) -> list[Row]:
    """(file:line, or file and number of the array's item; object) of every row; DataError where there are none."""
    text = read_text(path)
    if text.lstrip().startswith("["):
        items = [(f"{path}: item {number}", item) for number, item in enumerate(_parse(text, str(path)), 1)]
    else:
        lines = enumerate(text.split("\n"), 1)
        items = [(f"{path}:{number}", _parse(line, f"{path}:{number}")) for number, line in lines if line.strip()]
    if not items:
        raise DataError("no rows", where=str(path), remedy="one JSON object per line, or an array of them, is wanted")
    for where, item in items:
        if not isinstance(item, dict):
            raise DataError(f"a JSON object is wanted, not {_kind(item)}", where=where)
    return items


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        raise DataError(
            f"not JSON: {error.msg} at {place}",
            where=where,
            remedy="one JSON object per line, or one array of objects, is wanted",
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError("not usable JSON: a number of too many digits, or nested too deep", where=where) from error


def text_field(row: Row, key: str) -> str:
    """A string that must be there."""
    where, data = row
    if key not in data:
        raise DataError(f"no key {key!r}; there are {some(map(repr, data)) or 'none'}", where=where)
    if not isinstance(data[key], str):
        raise DataError(f"{key} must be a string, not {_kind(data[key])}", where=where)
    return str(data[key])


def name_field(row: Row, key: str) -> str:
    """A printable name; "" where the key is absent or null."""
    if row[1].get(key) is None:
        return ""
    name = text_field(row, key)
    if not name.isprintable():
        raise DataError(f"{key} {name!a} holds characters that cannot be printed", where=row[0])
    return name


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")


def read_answers(path: Path, format: str) -> list[ForeignAnswer]:
    """Answers of one or more models to prompts.

    alpaca_eval: `instruction`, `output`, `generator`, as AlpacaEval's model outputs. jsonl: `prompt` (a string, or
    a list of {role, content}), `answer`, `model`. A row that repeats an answer counts once. Two different
    answers of one model to one prompt are an error: which of them counts is not ours to guess.
    """
    keys = {"alpaca_eval": ("instruction", "output", "generator"), "jsonl": ("prompt", "answer", "model")}
    prompt_key, text_key, model_key = keys[check_format(format)]
    answers: list[ForeignAnswer] = []
    seen: dict[tuple[str, str], ForeignAnswer] = {}
    for row in read_rows(path):
        where, data = row
        prompt = _prompt(row, prompt_key)
        text = None if text_key in data and data[text_key] is None else text_field(row, text_key)
        answer = ForeignAnswer(prompt, text, name_field(row, model_key), where)
        earlier = seen.setdefault((answer.model, prompt.id), answer)
        if earlier.text != text:
            raise DataError(
                f"a second answer of {answer.model or 'the model'} to the prompt of {earlier.where}",
                where=where,
                remedy="keep one of them",
            )
        if earlier is answer:
            answers.append(answer)
    return answers


def _prompt(row: Row, key: str) -> Prompt:
    where, data = row
    turns = data.get(key)
    if not isinstance(turns, list):
        return Prompt.of(text_field(row, key))
    messages = []
    for turn in turns:
        if not (isinstance(turn, dict) and turn.get("role") in _ROLES and isinstance(turn.get("content"), str)):
            raise DataError(
                f"{key}: each turn must be an object with role ({', '.join(_ROLES)}) and content", where=where
            )
        messages.append(Message(turn["role"], turn["content"]))
    if not messages or messages[-1].role == "assistant":
        raise DataError(f"{key} must end before the assistant's answer, and not be empty", where=where)
    return Prompt(tuple(messages))
