"""The model and family of a judge, because judges prefer answers of their own family.

Panickssery, Bowman & Feng 2024, "LLM Evaluators Recognize and Favor Their Own Generations"; Wataoka et al. 2024,
"Self-Preference Bias in LLM-as-a-Judge".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import regex

from fairlead.config.judges import JudgeSettings, PanelSettings, RubricSettings

# The first that matches; names of derived models carry the name of the family whose weights they continue.
_FAMILIES = tuple(
    (family, regex.compile(rf"(?<![a-z])(?:{words})", regex.IGNORECASE))
    for family, words in (
        ("EleutherAI", r"gpt-?(?:neo|j\b)|pythia"),
        ("GPT", r"chat-?gpt|gpt-?\d|gpt-?oss|(?:text-)?davinci|o[1345](?:-|$)"),
        ("Claude", r"claude"),
        ("Gemini", r"gemini|gemma|palm-?2"),
        ("Llama", r"(?:code)?llama|vicuna|alpaca|tulu|pandalm"),
        ("Qwen", r"qwen|qwq"),
        ("Mistral", r"mistral|mixtral|ministral|magistral|codestral|zephyr|prometheus"),
        ("DeepSeek", r"deepseek"),
        ("Phi", r"phi-?\d"),
        ("Command", r"command|aya|c4ai"),
        ("Grok", r"grok"),
        ("Falcon", r"falcon"),
        ("SmolLM", r"smollm"),
        ("OLMo", r"olmo"),
        ("Yi", r"yi-\d"),
        ("GLM", r"(?:chat)?glm"),
    )
)


@dataclass(frozen=True)
class SharedLineage:
    """What a judge of the training pairs and a judge of the comparison have in common.

    Attributes:
        what: "model" or "family".
        name: of that model or family.
    """

    what: str
    name: str

    @property
    def sentence(self) -> str:
        """The warning, on one line."""
        common = f"the same model ({self.name})" if self.what == "model" else f"models of one family ({self.name})"
        return (
            f"the judge of the pairs and the judge of the comparison are {common}: what it picked, it will like again; "
            "set eval.judge to a model of another family"
        )


def family_of(model: str) -> str | None:
    """The family that a model's name tells, None where it tells none known here."""
    name = model.rstrip("/").rsplit("/", 1)[-1]
    return next((family for family, words in _FAMILIES if words.search(name)), None)


def models_of(settings: JudgeSettings) -> Iterator[str]:
    """The models that a judge asks; a rubric asks none."""
    if isinstance(settings, PanelSettings):
        for member in settings.judges:
            yield from models_of(member)
    elif not isinstance(settings, RubricSettings):
        yield settings.model


def shared_lineage(training: JudgeSettings | None, evaluation: JudgeSettings | None) -> SharedLineage | None:
    """What the two judges have in common: a model, else a family; None where that is nothing that their names tell.

    Rubrics are no models: they measure declared checks and cannot prefer their own.
    """
    if training is None or evaluation is None:
        return None
    trained, evaluated = list(models_of(training)), list(models_of(evaluation))
    for model in trained:
        if model in evaluated:
            return SharedLineage("model", model)
    families = {family_of(model) for model in evaluated}
    for model in trained:
        family = family_of(model)
        if family is not None and family in families:
            return SharedLineage("family", family)
    return None
