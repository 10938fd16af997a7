"""What a model is asked for when pairs are built: its prompt, the prompt with examples, a critique, a revision.

Pure functions. Critique and revision follow Bai et al. 2022, "Constitutional AI", section 3.1: the model criticises its
own answer by a principle, then rewrites it. Whether the rewriting is better is left to the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fairlead.config.loading.yaml_file import parse_yaml
from fairlead.errors import DataError
from fairlead.files import read_text
from fairlead.records import Completion, Example, Message, Prompt, content_id


def few_shot(prompt: Prompt, examples: Sequence[Example], count: int, seed: int) -> Prompt:
    """The prompt after `count` examples with their answers, which differ from prompt to prompt; its own is left out."""
    others = [example for example in examples if example.prompt.id != prompt.id]
    drawn = sorted(others, key=lambda example: content_id(seed, prompt.id, example.prompt.id, example.answer))[:count]
    return Prompt(after_examples(prompt.messages, drawn))


def after_examples(messages: Sequence[Message], examples: Sequence[Example]) -> tuple[Message, ...]:
    """The turns with the examples as earlier turns behind the system turn; the examples' system turns are left out."""
    system = (message for message in messages if message.role == "system")
    turns = (message for message in messages if message.role != "system")
    return (*system, *(turn for example in examples for turn in _as_turns(example)), *turns)


def _as_turns(example: Example) -> tuple[Message, ...]:
    asked = tuple(message for message in example.prompt.messages if message.role != "system")
    return (*asked, Message("assistant", example.answer))


def read_constitution(path: Path) -> list[str]:
    """The principles of a file: YAML (a list of texts, also under `principles`).

    Raises:
        ConfigError: if it is not YAML.
        DataError: if it cannot be read or holds no principles.
    """
    data = parse_yaml(read_text(path), where=str(path))
    principles = data.get("principles") if isinstance(data, dict) else data
    if (
        not isinstance(principles, list)
        or not principles
        or not all(isinstance(p, str) and p.strip() for p in principles)
    ):
        raise DataError(
            "holds no list of principles", where=str(path), remedy="wanted: - The answer names its sources."
        )
    return [principle.strip() for principle in principles]


def principle_for(prompt: Prompt, principles: Sequence[str], seed: int) -> str:
    """The principle that this prompt's answer is criticised by."""
    return min(principles, key=lambda principle: content_id(seed, prompt.id, principle))


def critique(prompt: Prompt, answer: str, principle: str) -> Prompt:
    """Asks for what is wrong with an answer."""
    request = (
        f"Criticise your last answer by this principle: {principle}\n"
        "Say in a few sentences where it falls short and what a better answer would do."
    )
    return Prompt((*prompt.messages, Message("assistant", answer), Message("user", request)))


def revision(prompt: Prompt, answer: str, criticism: str, principle: str) -> Prompt:
    """Asks for the answer again, with the criticism in mind."""
    request = "Write your answer to my first request again, so that it meets this criticism. Write the answer only."
    asked = critique(prompt, answer, principle)
    return Prompt((*asked.messages, Message("assistant", criticism), Message("user", request)))


def as_answers_to_original(completions: Sequence[Completion], prompts: Sequence[Prompt]) -> list[Completion]:
    """Completions of variants of prompts, as answers to the prompts themselves; both in the same order."""
    return [replace(c, prompt_id=prompt.id) for c, prompt in zip(completions, prompts, strict=True)]
