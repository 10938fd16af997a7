"""Conversations as chat templates take them: messages as dicts, and their token ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jinja2.exceptions import TemplateError, TemplateSyntaxError

from fairlead.errors import ModelError
from fairlead.records import Message, Prompt, message_dicts

_MOST_CHARACTERS = 200


def conversation(prompt: Prompt, answer: str | None = None) -> list[dict[str, str]]:
    """The turns of a prompt, with the assistant's answer after them if there is one."""
    return [*message_dicts(prompt.messages), *([] if answer is None else assistant_turn(answer))]


def assistant_turn(answer: str) -> list[dict[str, str]]:
    """An answer as the one turn of a completion."""
    return message_dicts([Message("assistant", answer)])


def prompt_tokens(prompt: Prompt, tokenizer: Any) -> list[int]:
    """Token ids of a prompt through the chat template, up to where the answer begins.

    Raises:
        ModelError: if the chat template fails on it.
    """
    return _tokens(message_dicts(prompt.messages), tokenizer, add_generation_prompt=True)


def conversation_tokens(prompt: Prompt, answer: str, tokenizer: Any) -> list[int]:
    """Token ids of a prompt with its answer, the end of the turn included.

    Raises:
        ModelError: if the chat template fails on it.
    """
    return _tokens(conversation(prompt, answer), tokenizer, add_generation_prompt=False)


def check_template(tokenizer: Any, where: str) -> None:
    """Refuses a chat template that cannot render even one question with its answer.

    Raises:
        ModelError: with what is wrong in the template.
    """
    question, answered = Prompt.of("question"), "answer"
    for turns, opened in ((conversation(question), True), (conversation(question, answered), False)):
        _tokens(turns, tokenizer, add_generation_prompt=opened, where=where)


def _tokens(
    turns: list[dict[str, str]], tokenizer: Any, *, add_generation_prompt: bool, where: str | None = None
) -> list[int]:
    try:
        encoded = tokenizer.apply_chat_template(
            turns, tokenize=True, add_generation_prompt=add_generation_prompt, return_dict=True
        )
    except TemplateSyntaxError as error:
        raise ModelError(
            f"its chat template is not valid Jinja: line {error.lineno}: {_first_line(error)}",
            where=where or tokenizer.name_or_path,
            remedy="correct the template (model.chat_template, or chat_template.jinja in the model's folder)",
        ) from error
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ModelError(
            f"its chat template fails on turns of {_roles(turns)}: {_first_line(error)}",
            where=where or tokenizer.name_or_path,
            remedy="set model.chat_template to a template that takes these turns, or leave out what adds them "
            "(data.system, few-shot examples, rows with such turns)",
        ) from error
    ids: list[int] = encoded["input_ids"]
    return ids


def _roles(turns: Iterable[dict[str, str]]) -> str:
    return ", ".join(turn["role"] for turn in turns)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:_MOST_CHARACTERS] if lines else type(error).__name__
