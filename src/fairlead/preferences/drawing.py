"""Which completions of one model make preference pairs: plain ones, those after examples, and its own revisions.

Knows neither models nor stages: `Draw` is whoever answers requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairlead.config.sampling import SampleSection
from fairlead.models.generation import CompletionRequest
from fairlead.preferences import prompt_variants
from fairlead.records import Completion, Example, Prompt, PromptVariant, Sampling

Draw = Callable[[Sequence[CompletionRequest]], list[Completion]]


def completions_of(
    prompts: Sequence[Prompt],
    section: SampleSection,
    model: str,
    draw: Draw,
    *,
    seed: int,
    examples: Sequence[Example] = (),
    principles: Sequence[str] = (),
) -> list[Completion]:
    """Plain completions, those after examples, and revisions of the first of each prompt.

    Args:
        section: temperatures, numbers and lengths.
        model: name of the model that `draw` asks.
        examples: the examples for `section.few_shot`.
        principles: the model revises its answers by one of these for each prompt; none makes no revision.
    """
    plain = draw(requests_for(prompts, section, model))
    completions = list(plain)
    if section.few_shot:
        with_examples = [prompt_variants.few_shot(p, examples, section.few_shot, seed) for p in prompts]
        drawn = draw(requests_for(with_examples, section, model, "few_shot"))
        repeated = [prompt for prompt in prompts for _ in range(len(drawn) // len(prompts))]
        completions += prompt_variants.as_answers_to_original(drawn, repeated)
    if principles:
        completions += _revisions(prompts, plain, principles, draw, seed)
    return completions


def count_of(prompts: int, section: SampleSection) -> int:
    """How many completions `completions_of` draws, critiques included."""
    plain = len(section.temperatures) * section.per_temperature
    return prompts * (plain * (1 + bool(section.few_shot)) + (2 if section.constitution else 0))


def requests_for(
    prompts: Sequence[Prompt], section: SampleSection, model: str, variant: PromptVariant = "plain"
) -> list[CompletionRequest]:
    """One request per prompt, temperature and repetition, prompt by prompt."""
    temperatures = [t for t in section.temperatures for _ in range(section.per_temperature)]
    return [
        CompletionRequest(prompt, Sampling(t, section.top_p, section.max_new_tokens), index, model, variant)
        for prompt in prompts
        for index, t in enumerate(temperatures)
    ]


def _revisions(
    prompts: Sequence[Prompt], plain: Sequence[Completion], principles: Sequence[str], draw: Draw, seed: int
) -> list[Completion]:
    """The first completion of every prompt, criticised and rewritten by its author."""
    firsts = [completion for completion in plain if completion.index == 0]
    work = [(p, c, prompt_variants.principle_for(p, principles, seed)) for p, c in zip(prompts, firsts, strict=True)]
    critiques = draw(
        [
            CompletionRequest(prompt_variants.critique(p, c.text, principle), c.sampling, c.index, c.model, "critique")
            for p, c, principle in work
        ]
    )
    revised = [
        prompt_variants.revision(p, c.text, criticism.text, principle)
        for (p, c, principle), criticism in zip(work, critiques, strict=True)
    ]
    revisions = draw(
        [
            CompletionRequest(prompt, c.sampling, c.index, c.model, "revision")
            for prompt, c in zip(revised, firsts, strict=True)
        ]
    )
    return prompt_variants.as_answers_to_original(revisions, prompts)
