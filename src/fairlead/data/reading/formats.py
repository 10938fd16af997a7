"""The forms in which preference rows are published: one function per form, from a row to a `Preference`.

Knows nothing of files: an error here says what is wrong with the row, and the caller says where the row stands.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fairlead.data.reading.argilla import argilla
from fairlead.data.reading.fields import (
    UnusableRowError,
    about,
    field,
    message_of,
    messages_field,
    number,
    prompt_field,
    provenance_field,
    text_field,
    wrong,
)
from fairlead.data.reading.rows import Row
from fairlead.errors import DataError
from fairlead.records import DropReason, Imported, Message, Preference, Prompt, Role

Reader = Callable[[Row], Preference]

SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
    ("rating_chosen", "rating_rejected"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)
PLAIN_REQUEST: dict[str, Any] = {"tools": [], "parallel_tool_calls": True}
TRANSCRIPT_TURN = re.compile(r"\n\n(Human|Assistant):")


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
        if row.get("prompt") is not None:
            raise DataError(
                "has a prompt, and the form implicit takes it from what chosen and rejected have in common",
                remedy="set the format to standard, or delete the prompts of all rows",
            )
        return _from_common_words(row, text_field(row, "chosen"), text_field(row, "rejected"))
    return _from_common_turns(row, messages_field(row, "chosen"), messages_field(row, "rejected"))


def hh(row: Row) -> Preference:
    """HH-RLHF's text form: `chosen` and `rejected` are "\\n\\nHuman: … \\n\\nAssistant: …" from the first turn on.

    The prompt is the longest conversation that both begin with.
    """
    return _from_common_turns(row, _transcript(row, "chosen"), _transcript(row, "rejected"))


def ultrafeedback(row: Row) -> Preference:
    """The schema of HuggingFaceH4/ultrafeedback_binarized: implicit prompt in messages, with both scores."""
    for column in SCORES[0]:
        field(row, column)
    return implicit(row)


def sharegpt(row: Row) -> Preference:
    """ShareGPT style: `conversations` of {from, value}, `chosen` and `rejected` one such turn each, maybe `system`."""
    turns = messages_field(row, "conversations")
    if row.get("system"):
        turns = (Message("system", text_field(row, "system")), *turns)
    answers = [_after((), (message_of(field(row, key), key),)) for key in ("chosen", "rejected")]
    return _preference(row, Prompt(turns, **about(row)), *answers)


def openai(row: Row) -> Preference:
    """OpenAI's preference fine-tuning: `input.messages`, and `preferred_output`, `non_preferred_output` of one turn.

    What else `input` holds (tools, parallel_tool_calls), if it is not `PLAIN_REQUEST`, is the `request` of the
    provenance.
    """
    request = field(row, "input")
    if not isinstance(request, Mapping):
        raise wrong("input", "an object with messages", request)
    answers = [_after((), messages_field(row, key)) for key in ("preferred_output", "non_preferred_output")]
    pair = _preference(row, Prompt(messages_field(request, "messages"), **about(row)), *answers)
    other = {key: value for key, value in request.items() if key != "messages"}
    if not other or other == PLAIN_REQUEST:
        return pair
    origin = pair.provenance or Imported()
    return replace(pair, provenance=replace(origin, request=other) if isinstance(origin, Imported) else origin)


def distilabel(row: Row) -> Preference:
    """distilabel's rows, and Argilla's data sets: `instruction` (or `input`, or `messages`), maybe `system_prompt`.

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
    if preference is None or not 1 <= number(preference, "preference") <= 2:
        raise UnusableRowError(DropReason.NO_VERDICT)
    outcome = "win" if preference > 1.5 else "loss" if preference < 1.5 else "draw"
    answers = (baseline, model) if outcome == "loss" else (model, baseline)
    return Preference(prompt, *answers, abs(2 * preference - 3), Imported(outcome=outcome))


def fairlead(row: Row) -> Preference:
    """Fairlead's own form, as `records.to_json` writes it."""
    prompt = field(row, "prompt")
    if not isinstance(prompt, Mapping):
        raise wrong("prompt", "an object with messages", prompt)
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
        argilla,
        alpaca_eval,
        fairlead,
    )
}


def _after(prompt: Sequence[Message], turns: Sequence[Message]) -> str:
    """The one assistant answer in `turns`, which may repeat the prompt before it."""
    rest = turns[len(prompt) :] if tuple(turns[: len(prompt)]) == tuple(prompt) else turns
    if len(rest) != 1:
        raise UnusableRowError(DropReason.SEVERAL_TURNS)
    if rest[0].role != "assistant":
        raise UnusableRowError(DropReason.NOT_THE_ASSISTANT)
    return rest[0].content


def _transcript(row: Row, name: str) -> tuple[Message, ...]:
    text = text_field(row, name)
    if not TRANSCRIPT_TURN.match(text):
        raise wrong(name, "a transcript that begins with a blank line and Human:", text)
    parts = TRANSCRIPT_TURN.split(text)[1:]
    roles: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
    return tuple(Message(roles[role], content.strip()) for role, content in zip(parts[::2], parts[1::2], strict=True))


def _from_common_turns(row: Row, chosen: Sequence[Message], rejected: Sequence[Message]) -> Preference:
    if tuple(chosen) == tuple(rejected):
        raise UnusableRowError(DropReason.IDENTICAL)
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
        raise wrong(ratings, "a list, with a rating for each of the generations,", values)
    rated = {
        place: number(value, f"{ratings}[{place}]")
        for place, value in enumerate(values)
        if value is not None and value == value and texts[place] is not None  # NaN is no rating
    }
    if len(rated) < 2:
        raise UnusableRowError(DropReason.TOO_FEW_RATED)
    best, worst = max(rated, key=rated.__getitem__), min(rated, key=rated.__getitem__)
    if rated[best] == rated[worst]:
        raise UnusableRowError(DropReason.EQUAL_SCORES)
    for place in (best, worst):
        if not isinstance(texts[place], str):
            raise wrong(f"generations[{place}]", "a string", texts[place])
    models = row.get("generation_models") or row.get("model_names")
    names = models if isinstance(models, list) and len(models) == len(texts) else [""] * len(texts)
    origin = Imported(chosen_model=str(names[best] or ""), rejected_model=str(names[worst] or ""))
    return Preference(prompt, texts[best], texts[worst], rated[best] - rated[worst], origin)


def _preference(row: Row, prompt: Prompt, chosen: str, rejected: str) -> Preference:
    return Preference(prompt, chosen, rejected, _margin(row), provenance_field(row))


def _margin(row: Row) -> float | None:
    """The row's `margin`, or score of chosen minus score of rejected; None where it gives neither."""
    if row.get("margin") is not None:
        return number(row["margin"], "margin")
    for names in SCORES:
        better, worse = (row.get(name) for name in names)
        if better is not None and worse is not None:
            return number(better, names[0]) - number(worse, names[1])
    return None
