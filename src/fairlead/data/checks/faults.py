"""Faults of rows, by check, and those that are seen in the texts of one row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from fairlead.data.checks import text_quality
from fairlead.records import Prompt
from fairlead.text.words import asked


@dataclass
class Faults:
    """Places of the rows that have each fault.

    Attributes:
        places: by check, where the rows stand.
        kinds: by check, how many rows have each kind of the fault, where it has kinds.
    """

    places: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, check: str, place: str, kind: str = "") -> None:
        self.places[check].append(place)
        if kind:
            self.kinds[check][kind] += 1


def note_texts(prompt: Prompt, answers: Sequence[str], place: str, faults: Faults) -> None:
    """Adds template tokens, secrets, e-mail addresses and mixed languages in a prompt and the answers to it."""
    texts = (prompt.text, *answers)
    token = next((match for text in texts if (match := text_quality.template_token(text))), None)
    if token is not None:
        faults.add("template_tokens", place, token)
    kind = next((match for text in texts if (match := text_quality.secret(text))), None)
    if kind is not None:
        faults.add("secrets", place, kind)
    if any(map(text_quality.has_email, texts)):
        faults.add("email_addresses", place)
    mixed = _mixed_languages(asked(prompt), answers)
    if mixed is not None:
        faults.add("mixed_languages", place, mixed)


def spaced(text: str) -> str:
    """The text with single spaces: a prompt with one more asks the same."""
    return " ".join(text.split())


def _mixed_languages(asked_text: str, answers: Sequence[str]) -> str | None:
    """What is mixed, where it is clear: prompt and answer, the two answers, or the scripts of one answer."""
    prompt_language, *answer_languages = map(text_quality.language, (asked_text, *answers))
    others = [answered_in for answered_in in answer_languages if answered_in not in (None, prompt_language)]
    if prompt_language is not None and others:
        return f"{prompt_language} answered in {others[0]}"
    if None not in answer_languages and len(set(answer_languages)) > 1:
        return f"{answer_languages[0]} preferred to {answer_languages[1]}"
    scripts = (text_quality.foreign_script(answer, asked_text) for answer in answers)
    foreign = next((script for script in scripts if script is not None), None)
    return None if foreign is None else f"part of an answer in {foreign}"
