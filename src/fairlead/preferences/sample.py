"""The `sample` stage: completions of the model that DPO starts from, for every task prompt."""

from __future__ import annotations

from fairlead.config import ModelSection, SampleSection
from fairlead.files import write_jsonl
from fairlead.models.generation import Request, TransformersGenerator
from fairlead.models.resumable import generate_resumable
from fairlead.models.views import ViewName, Views, views_of
from fairlead.preferences import rows
from fairlead.records import Sampling, to_json
from fairlead.stages import Context, Figures

_BATCHES_PER_CHUNK = 4  # more sorts lengths better, fewer loses less to a kill


def run(context: Context) -> Figures:
    """Writes completions.jsonl: every prompt's draws at every temperature, in the order of the prompts."""
    section: SampleSection = context.section("sample")
    model: ModelSection = context.section("model")
    prompts = rows.prompts(context.inputs["prepare"].file("prompts.jsonl"))
    requests = [
        Request(prompt, Sampling(temperature, section.top_p, section.max_new_tokens), index)
        for prompt in prompts
        for index, temperature in enumerate(t for t in section.temperatures for _ in range(section.per_temperature))
    ]
    views = views_of(context.inputs)
    name: ViewName = "sft" if "sft" in views else "base"
    host = Views(model, context.folder, views)
    known = 0
    with host.use(name) as policy, context.progress.task("sample", "completions", len(requests)) as bar:

        def advance(count: int) -> None:
            nonlocal known
            known += count
            bar.update(known)

        generator = TransformersGenerator(
            policy, host.tokenizer, name=name, batch_size=section.batch_size, advance=advance
        )
        completions = generate_resumable(
            generator,
            requests,
            log=context.out / "chunks.jsonl",
            chunk=section.batch_size * _BATCHES_PER_CHUNK,
            seed=context.seed,
            advance=advance,
        )
    write_jsonl(context.out / "completions.jsonl", map(to_json, completions))
    return {
        "completions": len(completions),
        "cut_by_the_token_limit": sum(c.finish == "length" for c in completions) / max(1, len(completions)),
        "mean_tokens": sum(c.tokens for c in completions) / max(1, len(completions)),
    }
