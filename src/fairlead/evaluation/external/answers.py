"""Answers and rows of files that other systems wrote: a JSON array or one JSON object per line.

Everything in them is checked by type, with the file and the line in the error; nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from fairlead.data.reading import fields
from fairlead.data.reading.rows import FileRow, read_rows
from fairlead.errors import DataError, known_names
from fairlead.escape import shorten
from fairlead.records import Prompt

Format = Literal["alpaca_eval", "jsonl"]


@dataclass(frozen=True, slots=True)
class ExternalAnswer:
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
    raise DataError(f"unknown format {name!r}", remedy=known_names(name, get_args(Format)))


def text_field(row: FileRow, key: str) -> str:
    """A string that must be there."""
    return row.read(lambda fields_of_row: fields.text_field(fields_of_row, key))


def name_field(row: FileRow, key: str) -> str:
    """A printable name; "" where the key is absent or null."""
    if row.fields.get(key) is None:
        return ""
    name = text_field(row, key)
    if not name.isprintable():
        raise row.error(f"{key} {shorten(ascii(name))} holds characters that cannot be printed")
    return name


def read_answers(path: Path, format: str) -> list[ExternalAnswer]:
    """Answers of one or more models to prompts.

    alpaca_eval: `instruction`, `output`, `generator`, as AlpacaEval's model outputs. jsonl: `prompt` (a string, or
    a list of {role, content}), `answer`, `model`. A row that repeats an answer counts once. Two different
    answers of one model to one prompt are an error: it is not known which of them counts.
    """
    keys = {"alpaca_eval": ("instruction", "output", "generator"), "jsonl": ("prompt", "answer", "model")}
    prompt_key, text_key, model_key = keys[check_format(format)]
    answers: list[ExternalAnswer] = []
    seen: dict[tuple[str, str], ExternalAnswer] = {}
    for row in read_rows(path):
        prompt = _prompt(row, prompt_key)
        is_null = text_key in row.fields and row.fields[text_key] is None
        text = None if is_null else text_field(row, text_key)
        answer = ExternalAnswer(prompt, text, name_field(row, model_key), row.where)
        earlier = seen.setdefault((answer.model, prompt.id), answer)
        if earlier.text != text:
            whose = answer.model or "the model"
            raise row.error(f"a second answer of {whose} to the prompt of {earlier.where}", "keep one of them")
        if earlier is answer:
            answers.append(answer)
    return answers


def _prompt(row: FileRow, key: str) -> Prompt:
    if not isinstance(row.fields.get(key), list):
        return Prompt.of(text_field(row, key))
    try:
        messages = row.read(lambda fields_of_row: fields.messages_field(fields_of_row, key))
    except fields.UnusableRowError as error:
        raise row.error(f"{key}: {error}") from error
    if messages[-1].role == "assistant":
        raise row.error(f"{key} must end before the assistant's answer")
    return Prompt(messages)
