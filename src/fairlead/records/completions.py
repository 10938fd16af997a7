"""Completions: what a model answered, with all that is needed to draw it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PromptVariant = Literal["plain", "few_shot", "critique", "revision"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus; 1 keeps the whole distribution.
        max_new_tokens: an answer that reaches it is cut and says so in `Completion.finish`.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of one model to one prompt, with all that is needed to draw it again.

    Attributes:
        model: who answered: base, sft, dpo, or the name of a model from elsewhere.
        index: number of this draw among those of its prompt.
        seed: seed of this draw; the same model, prompt, sampling and seed give the same text.
        finish: "stop" at the end-of-sequence token, "length" where `max_new_tokens` cut it.
        tokens: number of generated tokens, the end-of-sequence token included.
        variant: what the model was asked: the prompt itself, the prompt after examples, for a criticism of an earlier
            completion, or for its revision.
    """

    prompt_id: str
    text: str
    model: str
    sampling: Sampling
    index: int = 0
    seed: int = 0
    finish: Literal["stop", "length"] = "stop"
    tokens: int = 0
    variant: PromptVariant = "plain"
