"""The `answers` stage: base, SFT and DPO answer the same held-out prompts in one pass over one set of base weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fairlead.config.stage_settings import AnswersSettings
from fairlead.escape import code_block, markdown
from fairlead.files import write_atomic, write_jsonl
from fairlead.models.adapters import ModelName, VariantLoader, variants_of
from fairlead.models.generation import CompletionRequest, LocalGenerator
from fairlead.models.resumable import generate_resumable
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.progress import adding
from fairlead.records import Completion, Prompt, Sampling, to_json

_BATCHES_PER_CHUNK = 16  # within a chunk the batch stays full; at its end it runs empty


def run(context: Context[AnswersSettings]) -> Metrics:
    """Writes answers.jsonl (every model's answers, model by model) and samples.md (side by side, for people)."""
    section = context.settings.answers
    model = context.settings.model
    prompts = context.read(files.EVAL_PROMPTS)
    sampling = Sampling(section.temperature, section.top_p, section.max_new_tokens)
    variants = variants_of(files.trained_models(context.inputs))
    requests = [CompletionRequest(prompt, sampling, model=name) for prompt in prompts for name in variants]
    host = VariantLoader(model, context.folder, variants)
    with context.progress.task("answers", "held-out prompts", len(requests)) as bar:
        advance = adding(bar)
        completions = generate_resumable(
            LocalGenerator(host, batch_size=section.batch_size, advance=advance),
            requests,
            log=context.out / "chunks" / "answers.jsonl",
            chunk=section.batch_size * _BATCHES_PER_CHUNK,
            seed=context.seed,
            advance=advance,
        )
    answers: dict[ModelName, list[Completion]] = {
        name: completions[at :: len(variants)] for at, name in enumerate(variants)
    }
    write_jsonl(context.out / "answers.jsonl", (to_json(a) for variant in answers.values() for a in variant))
    write_atomic(context.out / "samples.md", side_by_side(prompts, answers))
    everything = [answer for variant in answers.values() for answer in variant]
    cut = {name: sum(a.finish == "length" for a in variant) / max(1, len(variant)) for name, variant in answers.items()}
    return {
        "answers": len(everything),
        "prompts": len(prompts),
        "cut_by_the_token_limit": cut,
        "distinct": {name: len({a.text for a in variant}) / max(1, len(variant)) for name, variant in answers.items()},
        "mean_tokens": {
            name: sum(a.tokens for a in variant) / max(1, len(variant)) for name, variant in answers.items()
        },
    }


def side_by_side(
    prompts: Sequence[Prompt],
    answers: Mapping[ModelName, Sequence[Completion]],
    numbers: Sequence[int] | None = None,
) -> str:
    """Markdown with each prompt and its answers. Texts stand in code blocks, because model output is not trusted.

    Args:
        numbers: of the prompts to show, in this order; None shows all.
    """
    parts: list[str] = []
    for number in range(len(prompts)) if numbers is None else numbers:
        prompt = prompts[number]
        parts.append(f"### Prompt {number + 1} ({markdown(prompt.id)})\n\n{code_block(prompt.text)}")
        if prompt.gold:
            parts.append(f"**gold**\n\n{code_block(', '.join(f'{k}: {v}' for k, v in prompt.gold.items()))}")
        for name, variant in answers.items():
            cut = " (cut by the token limit)" if variant[number].finish == "length" else ""
            parts.append(f"**{name}**{cut}\n\n{code_block(variant[number].text)}")
    return "\n\n".join(parts) + "\n"
