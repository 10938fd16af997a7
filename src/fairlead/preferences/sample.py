"""The `sample` stage: completions for every task prompt, of the model that DPO starts from and of others.

Beside its plain completions the model can be shown examples first (sample.few_shot), can revise its answers by a
constitution (sample.constitution), and can stand against other models (sample.models).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairlead.config.model import ModelSection
from fairlead.config.stage_settings import SampleSettings
from fairlead.files import write_jsonl
from fairlead.models.adapters import ModelName, VariantLoader, variants_of
from fairlead.models.generation import CompletionRequest, Generator, LocalGenerator
from fairlead.models.loading import load_base, load_tokenizer
from fairlead.models.resumable import generate_resumable
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.preferences.drawing import Draw, completions_of, requests_for
from fairlead.preferences.prompt_variants import read_constitution
from fairlead.progress import adding
from fairlead.records import Completion, Prompt, content_id, to_json

_BATCHES_PER_CHUNK = 8  # within a chunk the batch stays full; a kill loses the chunk under way


def run(context: Context[SampleSettings]) -> Metrics:
    """Writes completions.jsonl: every prompt's draws at every temperature, in the order of the prompts."""
    section = context.settings.sample
    model = context.settings.model
    prompts = context.read(files.TASK_PROMPTS)
    variants = variants_of(files.trained_models(context.inputs))
    name: ModelName = "sft" if "sft" in variants else "base"
    per_prompt = len(section.temperatures) * section.per_temperature
    kinds = 1 + bool(section.few_shot) + len(section.models)
    total = len(prompts) * (kinds * per_prompt + (2 if section.constitution else 0))
    with context.progress.task("sample", "completions", total) as bar:
        advance = adding(bar)
        host = VariantLoader(model, context.folder, variants)
        policy = LocalGenerator(host, batch_size=section.batch_size, advance=advance)
        completions = completions_of(
            prompts,
            section,
            name,
            _drawer(context, policy, advance),
            seed=context.seed,
            examples=context.read(files.SFT_ROWS) if section.few_shot else (),
            principles=read_constitution(context.path(section.constitution)) if section.constitution else (),
        )
        del host, policy  # never two sets of weights at once
        for other in section.models:
            completions += _of_other(other, prompts, context, advance)
    write_jsonl(context.out / "completions.jsonl", map(to_json, completions))
    return {
        "completions": len(completions),
        "cut_by_the_token_limit": sum(c.finish == "length" for c in completions) / max(1, len(completions)),
        "mean_tokens": sum(c.tokens for c in completions) / max(1, len(completions)),
    }


def _of_other(
    name: str, prompts: Sequence[Prompt], context: Context[SampleSettings], advance: Callable[[int], None]
) -> list[Completion]:
    section = context.settings.sample
    model = ModelSection(name=name)
    generator = LocalGenerator.of(
        load_base(model, context.folder),
        load_tokenizer(model, context.folder),
        name=name,
        batch_size=section.batch_size,
        advance=advance,
    )
    return _drawer(context, generator, advance)(requests_for(prompts, section, name))


def _drawer(context: Context[SampleSettings], generator: Generator, advance: Callable[[int], None]) -> Draw:
    """Draws requests of one model and variant, resuming where a killed run stopped."""
    section = context.settings.sample

    def draw(requests: Sequence[CompletionRequest]) -> list[Completion]:
        if not requests:
            return []
        log = content_id(requests[0].model, requests[0].variant)  # a/model and b/model are two
        return generate_resumable(
            generator,
            requests,
            log=context.out / "chunks" / f"{log}.jsonl",
            chunk=section.batch_size * _BATCHES_PER_CHUNK,
            seed=context.seed,
            advance=advance,
        )

    return draw
