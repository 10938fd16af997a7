"""Rows of prompts and of SFT examples as records. A conversation makes an example of every answer that is trained on.

Knows nothing of files: an error here says what is wrong with the row, and the caller says where the row stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fairlead.data.reading import fields
from fairlead.data.reading.fields import UnusableRowError, text_field, wrong
from fairlead.data.reading.rows import Row
from fairlead.errors import DataError
from fairlead.records import SOURCE, DropReason, Example, Message, Prompt, content_id, message_dicts

_CONVERSATIONS = ("messages", "conversations")


def conversation_column(row: Row) -> str | None:
    """The column that holds a row's whole conversation, None where its prompt has a column of its own."""
    if "prompt" in row or "instruction" in row:
        return None
    return next((name for name in _CONVERSATIONS if row.get(name) is not None), None)


def fault_of(prompt: Prompt) -> DropReason | None:
    """Why a prompt cannot be asked, None if it can."""
    if not prompt.messages or not prompt.messages[-1].content.strip():
        return DropReason.EMPTY_PROMPT
    if prompt.messages[-1].role == "assistant":
        return DropReason.PROMPT_ENDS_IN_ANSWER
    return None


def prompt_of(row: Row) -> Prompt | DropReason:
    """The prompt of a row, also one that cannot be asked; a reason where its turns cannot be shown.

    Raises:
        DataError: if the row is malformed.
    """
    return fields.or_reason(_asked, row)


def prompt_row(row: Row) -> Prompt:
    """`prompt`, `messages` or `conversations` that end before the answer, or Alpaca's `instruction` and `input`.

    Raises:
        DataError: if the row holds none of them, or what it holds cannot be asked.
    """
    prompt = _asked(row)
    fault = fault_of(prompt)
    if fault:
        raise DataError(fault)
    return prompt


def sourced_prompt_row(row: Row) -> Prompt:
    """The prompt of a row with the text that its answers must rest on, as a part of its gold.

    Raises:
        DataError: if the row has none.
    """
    prompt, source = prompt_row(row), fields.source_field(row)
    if source is None:
        names = ", ".join(fields.SOURCE_FIELDS)
        raise DataError(
            "has no source text, by which its answer is to be judged",
            remedy=f"give the row one of the fields {names}, or take a criterion that needs no source",
        )
    return replace(prompt, gold={**prompt.gold, SOURCE: source})


def example_row(row: Row) -> Example:
    """The example of a row: its answer, or the last turn of its conversation.

    Raises:
        DataError: if the row holds no example; also where it marks its answer with weight 0.
    """
    column = conversation_column(row)
    if column is None:
        prompt = prompt_row(row)
        column, answers = _answer(row)
    else:
        turns = _turns(row, column)
        if len(turns) < 2:
            raise DataError(f"{column!r} must hold a prompt and an answer")
        prompt, answers = prompt_row({**row, column: message_dicts(turns[:-1])}), turns[-1:]
        if _weight(row[column][-1]) == 0:
            raise DataError(
                f"the answer in {column!r} has weight 0, so it is not to be trained on",
                remedy="fairlead data import FILE leaves it out, and makes an example of every other answer",
            )
    if len(answers) != 1 or answers[0].role != "assistant":
        raise DataError(f"{column!r} must end in one assistant message")
    if not answers[0].content.strip():
        raise DataError(f"the answer in {column!r} is empty")
    return Example(prompt, answers[0].content)


def examples_of(row: Row) -> list[Example | DropReason]:
    """What a row teaches: its example, or one for every turn of the assistant; and why what makes none makes none.

    OpenAI's fine-tuning trains on every answer of a conversation whose `weight` is not 0, so each of them becomes an
    example that is asked with the turns before it. They have one `cluster`, so that no split parts them.

    Raises:
        DataError: if the row is malformed.
    """
    column = conversation_column(row)
    if column is not None:
        return _of_conversation(row, column)
    try:
        prompt, (column, answers) = _asked(row), _answer(row)
    except UnusableRowError as error:
        return [error.reason]
    if len(answers) != 1 or answers[0].role != "assistant":
        raise DataError(f"{column!r} must end in one assistant message")
    return [_example_or_reason(prompt, answers[0].content)]


def _of_conversation(row: Row, column: str) -> list[Example | DropReason]:
    turns = fields.field(row, column)
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise wrong(column, "a list of messages (at least one)", turns)
    read = list(_system(row) if column == "conversations" else ())
    made: list[Example | DropReason] = []
    for place, turn in enumerate(turns):
        try:
            message = fields.message_of(turn, f"{column}[{place}]")
        except UnusableRowError as error:  # what follows answers a turn that cannot be shown
            return [*made, error.reason]
        if message.role == "assistant":
            weight = _weight(turn)
            prompt = Prompt(tuple(read), **fields.about(row))
            made.append(DropReason.NOT_TRAINED_ON if weight == 0 else _example_or_reason(prompt, message.content))
        read.append(message)
    return _in_one_cluster(made, read) or [DropReason.NO_ANSWER]


def _in_one_cluster(made: Sequence[Example | DropReason], turns: Sequence[Message]) -> list[Example | DropReason]:
    if sum(isinstance(one, Example) for one in made) < 2:
        return list(made)
    cluster = f"conversation {content_id(message_dicts(turns))}"
    return [
        replace(one, prompt=replace(one.prompt, cluster=one.prompt.cluster or cluster))
        if isinstance(one, Example)
        else one
        for one in made
    ]


def _example_or_reason(prompt: Prompt, answer: str) -> Example | DropReason:
    fault = fault_of(prompt)
    if fault is not None:
        return fault
    return Example(prompt, answer) if answer.strip() else DropReason.EMPTY_ANSWER


def _weight(turn: Any) -> int | None:
    """The `weight` of a turn, as OpenAI writes it: 0 where it is not trained on."""
    weight = turn.get("weight") if isinstance(turn, Mapping) else None
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise wrong("weight", "0 or 1", weight)
    return weight


def _asked(row: Row) -> Prompt:
    column = conversation_column(row)
    if column is not None:
        return Prompt(_turns(row, column), **fields.about(row))
    if "prompt" in row or "instruction" not in row:
        return fields.prompt_field(row)
    asked = Message("user", fields.instruction_and_input(row))
    return Prompt((*_system(row), *_history(row), asked), **fields.about(row))


def _turns(row: Row, column: str) -> tuple[Message, ...]:
    return (*(_system(row) if column == "conversations" else ()), *fields.messages_field(row, column))


def _system(row: Row) -> tuple[Message, ...]:
    return (Message("system", text_field(row, "system")),) if row.get("system") else ()


def _history(row: Row) -> list[Message]:
    """The earlier turns that some files of Alpaca's form have: `history` of [question, answer]."""
    history = row.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn) for turn in history
    ):
        raise wrong("history", "a list of [question, answer]", history)
    return [message for asked, told in history for message in (Message("user", asked), Message("assistant", told))]


def _answer(row: Row) -> tuple[str, tuple[Message, ...]]:
    """The column with the answer, and its turns."""
    columns = ("answer", "completion", "output") if "instruction" in row else ("answer", "completion")
    column = next((name for name in columns if name in row), columns[-1] if "instruction" in row else "answer")
    if isinstance(fields.field(row, column), str):
        return column, (Message("assistant", row[column]),)
    return column, fields.messages_field(row, column)
