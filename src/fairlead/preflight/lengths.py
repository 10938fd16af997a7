"""Rows that are too long: for the model's context, or for what training keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from fairlead.config.training import DpoSection, SftSection
from fairlead.data.prepare import with_system
from fairlead.errors import ModelError
from fairlead.preflight.base_model import ModelFiles
from fairlead.preflight.problem import Problem
from fairlead.preflight.rows import DataRows
from fairlead.preflight.scope import Scope
from fairlead.records import Preference, Prompt

T = TypeVar("T")
_MOST_ROWS = 300  # of a file are tokenised, the longest ones: what does not fit is among them


def too_long(scope: Scope, rows: DataRows, model: ModelFiles) -> Iterator[Problem]:
    """Rows that generation would refuse, or of which training would keep nothing."""
    if model.folder is None or not scope.loads_base:
        return
    from fairlead.models.loading import load_tokenizer  # loads torch, as the stages that are still to run do

    try:
        tokenizer = load_tokenizer(scope.config.model, scope.folder, str(model.folder))
    except ModelError as error:
        yield Problem.of("model.name", error)
        return
    lengths = _Lengths(tokenizer, scope.config.data.system)
    try:
        yield from _beyond_context(scope, rows, lengths, model.context)
        yield from _pairs_without_answers(scope, rows, lengths)
        yield from _sft_rows_without_answers(scope, rows, lengths)
    except ModelError as error:
        yield Problem.of("model.chat_template", error)


class _Lengths:
    """Lengths in tokens, as the chat template makes them."""

    def __init__(self, tokenizer: object, system: str | None) -> None:
        self._tokenizer, self._system = tokenizer, system

    def of(self, prompt: Prompt) -> int:
        return len(self.ids(prompt))

    def ids(self, prompt: Prompt) -> list[int]:
        from fairlead.models.chat import prompt_tokens

        return prompt_tokens(with_system(prompt, self._system), self._tokenizer)

    def answered(self, prompt: Prompt, answer: str) -> list[int]:
        from fairlead.models.chat import conversation_tokens

        return conversation_tokens(with_system(prompt, self._system), answer, self._tokenizer)


def _longest(rows: Sequence[T], characters: Callable[[T], int], most: int = _MOST_ROWS) -> list[T]:
    return sorted(rows, key=characters, reverse=True)[:most]


def _beyond_context(scope: Scope, rows: DataRows, lengths: _Lengths, context: int | None) -> Iterator[Problem]:
    """Prompts after which the model's context has no room for an answer: generation refuses them."""
    if context is None:
        return
    config = scope.config
    answering = [
        ("sample", "sample.max_new_tokens", config.sample.max_new_tokens, "data.prompts", rows.prompts),
        ("answers", "answers.max_new_tokens", config.answers.max_new_tokens, "data.eval", rows.eval),
        ("decide", "answers.max_new_tokens", config.answers.max_new_tokens, "data.dev", rows.dev),
    ]
    for stage, key, new_tokens, source, prompts in answering:
        if not prompts or not scope.runs(stage) or (stage == "decide" and not scope.decides):
            continue
        longest = max(map(lengths.of, _longest(prompts, lambda prompt: len(prompt.text))))
        if longest + new_tokens > context:
            yield Problem(
                key,
                f"{new_tokens} tokens and the longest prompt of {source} ({longest} tokens) exceed the model's context "
                f"of {context}",
                f"set it to {context - longest} or less" if longest < context else "shorten the prompt",
            )


def _pairs_without_answers(scope: Scope, rows: DataRows, lengths: _Lengths) -> Iterator[Problem]:
    """Pairs of which `dpo.max_length` leaves nothing to learn from: more of them than DPO allows."""
    section = scope.config.dpo
    if not isinstance(section, DpoSection) or not scope.runs("dpo"):
        return
    ready = bool(rows.preferences)
    count = len(rows.preferences) if ready else len(rows.prompts)
    allowed = section.max_dropped * count
    most = max(_MOST_ROWS, int(allowed) + 1)
    if ready:
        pairs = _longest(rows.preferences, lambda p: len(p.prompt.text) + len(p.chosen) + len(p.rejected), most)
        unusable = sum(_is_unusable(pair, lengths, section.max_length) for pair in pairs)
    else:
        prompts = _longest(rows.prompts, lambda prompt: len(prompt.text), most)
        unusable = sum(lengths.of(prompt) >= section.max_length for prompt in prompts)
    if unusable and (unusable > allowed or unusable == count):
        what = "pairs are" if ready else "prompts would make pairs that are"
        yield Problem(
            "dpo.max_length",
            f"at least {unusable} of {count} {what} empty or equal once cut to {section.max_length} tokens, and "
            f"dpo.max_dropped allows {section.max_dropped:.1%}",
            "raise dpo.max_length, shorten the rows, or raise dpo.max_dropped",
        )


def _is_unusable(pair: Preference, lengths: _Lengths, max_length: int) -> bool:
    from fairlead.training.dpo_trainer.truncation import why_unusable

    prompt = lengths.ids(pair.prompt)
    answers = {
        f"{name}_ids": lengths.answered(pair.prompt, text)[len(prompt) :]
        for name, text in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    return why_unusable({"prompt_ids": prompt, **answers}, max_length) is not None


def _sft_rows_without_answers(scope: Scope, rows: DataRows, lengths: _Lengths) -> Iterator[Problem]:
    """All SFT rows are cut before their answer begins, so nothing would be learnt."""
    section = scope.config.sft
    if not isinstance(section, SftSection) or not rows.sft or not scope.runs("sft"):
        return
    shortest = min(rows.sft, key=lambda example: len(example.prompt.text))
    if lengths.of(shortest.prompt) >= section.max_length:
        yield Problem(
            "sft.max_length",
            f"even the shortest prompt of data.sft fills {section.max_length} tokens, so no answer would be learnt",
            "raise sft.max_length",
        )
