"""The `probe` stage: forgetting, drift and the implicit reward.

Forgetting: perplexity of general text and a general task, for every variant. Drift: the KL from the reference, sampled
from the policy. Implicit reward: how often β·(log π - log π_ref) prefers the chosen answer of held-out pairs (Rafailov
et al. 2023, arXiv 2305.18290, section 4), so how good a reward model DPO has made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fairlead.checks import build_check
from fairlead.config.evaluation import ProbeSettings
from fairlead.config.stage_settings import DriftSettings
from fairlead.data.reading.readers import read_prompts
from fairlead.documents.drift import ByModel, DriftResult, general_fields
from fairlead.errors import DataError
from fairlead.files import read_text
from fairlead.models.adapters import ModelName, VariantLoader, reference_name, variants_of
from fairlead.models.generation import CompletionRequest, LocalGenerator, draw_tokens, pad_token_id
from fairlead.models.kl import answer_kls
from fairlead.models.log_probs import (
    Scored,
    answer_row,
    log_probs,
    prompt_length,
    text_rows,
)
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.progress import Progress, adding
from fairlead.records import Completion, Interval, Preference, Prompt, Sampling
from fairlead.statistics.intervals import bounded_mean_interval as bounded
from fairlead.statistics.intervals import mean_interval, paired_difference, proportion_interval

DriftContext = Context[DriftSettings]


def run(context: DriftContext) -> Metrics:
    """Writes probe.json."""
    section = context.settings.probe
    variants = variants_of(files.trained_models(context.inputs))
    loader = VariantLoader(context.settings.model, context.folder, variants)
    reference = reference_name(variants)
    general = _general(loader, list(variants), section, context) if section.task else {}
    held_out = context.read(files.VALIDATION_PAIRS) if context.inputs.has(files.VALIDATION_PAIRS) else []
    # Training drops them too: nothing of their answers is left.
    pairs = [pair for pair in held_out if prompt_length(pair.prompt, loader.tokenizer) < section.max_length]
    rewards = implicit_rewards(loader, reference, pairs, section.max_length, section.batch_size, context.progress)
    prompts = context.read(files.EVAL_PROMPTS)[: section.kl_prompts]
    prompts = [prompt for prompt in prompts if prompt_length(prompt, loader.tokenizer) < section.max_length]
    result = DriftResult(
        **_perplexities(loader, list(variants), section, context),
        **general,
        implicit_reward_accuracy=accuracy(rewards),
        kl_from_reference=_kl(loader, reference, prompts, section, context) if prompts else None,
    )
    result.write(context.out / "probe.json")
    return {
        "implicit_reward_pairs_too_long": len(held_out) - len(pairs),
        "implicit_reward_accuracy": result.implicit_reward_accuracy.value,
        "kl_from_reference": result.kl_from_reference.value if result.kl_from_reference else None,
    }


def _perplexities(
    loader: VariantLoader, names: Sequence[ModelName], section: ProbeSettings, context: DriftContext
) -> dict[str, ByModel]:
    """Perplexity of the general text by model, and its ratio to the base's; nothing where there is no text."""
    if not section.texts:
        return {}
    windows = _windows(loader, read_text(context.path(section.texts)), section)
    sums = {
        name: _log_probs(loader, name, windows, section.batch_size, context.progress, f"perplexity of {name}")
        for name in names
    }
    # The ratio of two perplexities is that of the difference of their log-likelihoods, window by window.
    differences = {name: np.subtract(sums[name], sums["base"]).tolist() for name in names if name != "base"}
    return {
        "perplexity": {name: perplexity(values, windows) for name, values in sums.items()},
        "perplexity_over_base": {name: perplexity(values, windows) for name, values in differences.items()},
    }


def _windows(loader: VariantLoader, text: str, section: ProbeSettings) -> list[Scored]:
    """The text's windows of tokens, the same for every variant, up to `max_texts_tokens` in all."""
    windows: list[Scored] = []
    for window in text_rows(text, loader.tokenizer, section.max_length):
        if sum(row.counted for row in windows) >= section.max_texts_tokens:
            break
        windows.append(window)
    if not windows:
        raise DataError("holds no text", where=str(section.texts), remedy="give a file of some thousand words")
    return windows


def perplexity(sums: Sequence[float], windows: Sequence[Scored]) -> Interval:
    """exp of the mean negative log-likelihood per token, its interval over windows (the t interval of a ratio).

    Args:
        sums: log-likelihood of each window's scored tokens, in nats.
    """
    tokens = [window.counted for window in windows]
    total = sum(tokens)
    mean = -sum(sums) / total
    residuals = [mean + (-s - mean * t) * len(tokens) / total for s, t in zip(sums, tokens, strict=True)]
    spread = mean_interval(residuals)
    low, high = (None if end is None else math.exp(end) for end in (spread.low, spread.high))
    return Interval(math.exp(mean), low, high, len(tokens), f"{total} tokens in windows; {spread.method}")


def _general(
    loader: VariantLoader, names: Sequence[ModelName], section: ProbeSettings, context: DriftContext
) -> dict[str, ByModel]:
    """Every check of the general task, by model, and its change over the base, paired by prompt."""
    prompts = read_prompts(context.path(str(section.task)))
    sampling = Sampling(0.0, 1.0, section.max_new_tokens)
    requests = [CompletionRequest(prompt, sampling, model=name) for name in names for prompt in prompts]
    texts = [completion.text for completion in _complete(loader, requests, section, context, "general task")]
    answers = {name: texts[at * len(prompts) : (at + 1) * len(prompts)] for at, name in enumerate(names)}
    fields: dict[str, ByModel] = {}
    for settings in section.task_checks:
        check = build_check(settings, context.folder)
        values = {
            name: [check(text, prompt.gold) for text, prompt in zip(answers[name], prompts, strict=True)]
            for name in names
        }
        of_models, over_base = general_fields(settings.name)
        fields[of_models] = {name: bounded([v for v in values[name] if v is not None], 0.0, 1.0) for name in names}
        fields[over_base] = {name: _change(values[name], values["base"]) for name in names if name != "base"}
    return fields


def _change(new: Sequence[float | None], old: Sequence[float | None]) -> Interval:
    """Mean difference over the prompts for which the check is defined for both."""
    both = [(n, o) for n, o in zip(new, old, strict=True) if n is not None and o is not None]
    return paired_difference([n for n, _ in both], [o for _, o in both], bounds=(0.0, 1.0))


def _complete(
    loader: VariantLoader,
    requests: Sequence[CompletionRequest],
    section: ProbeSettings,
    context: DriftContext,
    what: str,
) -> list[Completion]:
    with context.progress.task("probe", what, len(requests)) as bar:
        generator = LocalGenerator(loader, batch_size=section.batch_size, advance=adding(bar))
        return list(generator.generate(requests, seed=context.seed))


def implicit_rewards(
    loader: VariantLoader,
    reference: ModelName,
    pairs: Sequence[Preference],
    max_length: int,
    batch_size: int,
    progress: Progress,
) -> list[tuple[float, float]]:
    """(log-ratio of chosen, of rejected) of every pair, in nats; β times it is the implicit reward."""
    texts = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    ratios = log_ratios(loader, reference, texts, max_length, batch_size, progress)
    return list(zip(ratios[::2], ratios[1::2], strict=True))


def log_ratios(
    loader: VariantLoader,
    reference: ModelName,
    texts: Sequence[tuple[Prompt, str]],
    max_length: int,
    batch_size: int,
    progress: Progress,
) -> list[float]:
    """log π_dpo(answer | prompt) - log π_ref(answer | prompt) of every text."""
    scored = [answer_row(prompt, text, loader.tokenizer, max_length) for prompt, text in texts]
    policy, start = (
        _log_probs(loader, name, scored, batch_size, progress, "implicit reward") for name in ("dpo", reference)
    )
    return [p - r for p, r in zip(policy, start, strict=True)]


def accuracy(rewards: Sequence[tuple[float, float]]) -> Interval:
    """Share of pairs whose chosen answer has the higher implicit reward, equal ones half, with Wilson's interval."""
    outcomes = [0.5 if chosen == rejected else float(chosen > rejected) for chosen, rejected in rewards]
    if 0.5 in outcomes:
        return bounded(outcomes, 0.0, 1.0)
    return proportion_interval(int(np.sum(outcomes)), len(outcomes))


def _kl(
    loader: VariantLoader,
    reference: ModelName,
    prompts: Sequence[Prompt],
    section: ProbeSettings,
    context: DriftContext,
) -> Interval:
    """KL(π ‖ π_ref) in nats per answer, by `models.kl`, on answers drawn from the policy at temperature 1."""
    sampling = Sampling(1.0, 1.0, section.max_new_tokens)
    requests = [CompletionRequest(prompt, sampling, model="dpo") for prompt in prompts]
    with context.progress.task("probe", "KL from the reference", len(requests)) as bar, loader.use("dpo") as model:
        drawn = draw_tokens(
            model,
            loader.tokenizer,
            requests,
            seed=context.seed,
            batch_size=section.batch_size,
            finished=adding(bar),
        )
    kls = answer_kls(
        lambda: loader.use("dpo"),
        lambda: loader.use(reference),
        [Scored((*row.prompt, *answer), len(answer)) for row, answer in drawn],
        pad_id=pad_token_id(loader.tokenizer),
        batch_size=section.batch_size,
    )
    interval = mean_interval(kls, [prompt.cluster or prompt.id for prompt in prompts])
    return interval if interval.low is None else replace(interval, low=max(0.0, interval.low))


def _log_probs(
    loader: VariantLoader, name: ModelName, scored: Sequence[Scored], batch_size: int, progress: Progress, what: str
) -> list[float]:
    with loader.use(name) as model, progress.task("probe", what, len(scored)) as bar:
        pad_id = pad_token_id(loader.tokenizer)
        return log_probs(model, scored, pad_id=pad_id, batch_size=batch_size, advance=adding(bar))
