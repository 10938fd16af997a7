"""The `answers` stage: base, SFT and DPO answer the same held-out prompts in one pass over one set of base weights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from fairlead.config.stage_settings import AnswersSettings
from fairlead.documents.decision import Usage
from fairlead.documents.evaluation import Arm, Arms
from fairlead.escape import code_block, markdown
from fairlead.files import write_atomic, write_jsonl
from fairlead.models.adapters import VariantLoader, variants_of
from fairlead.models.chat import prompt_tokens
from fairlead.models.generation import CompletionRequest, LocalGenerator
from fairlead.models.resumable import generate_resumable
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.progress import adding
from fairlead.records import Completion, Prompt, Sampling, to_json

_WHAT = {"base": "the base model", "sft": "the SFT model", "dpo": "the SFT+DPO model"}
_BATCHES_PER_CHUNK = 16  # within a chunk the batch stays full; at its end it runs empty


def run(context: Context[AnswersSettings]) -> Metrics:
    """Writes answers.jsonl (every model's answers, model by model), arms.json (what they cost) and samples.md."""
    section = context.settings.answers
    model = context.settings.model
    prompts = context.read(files.EVAL_PROMPTS)
    sampling = Sampling(section.temperature, section.top_p, section.max_new_tokens)
    variants = variants_of(files.trained_models(context.inputs))
    requests = [
        CompletionRequest(prompt, sampling, index=draw, model=name)
        for prompt in prompts
        for draw in range(section.per_prompt)
        for name in variants
    ]
    host = VariantLoader(model, context.folder, variants)
    kept = 0
    started = time.perf_counter()
    with context.progress.task("answers", "held-out prompts", len(requests)) as bar:
        advance = adding(bar)

        def read(count: int) -> None:
            nonlocal kept
            kept = count
            advance(count)

        completions = generate_resumable(
            LocalGenerator(host, batch_size=section.batch_size, advance=advance),
            requests,
            log=context.out / "chunks" / "answers.jsonl",
            chunk=section.batch_size * _BATCHES_PER_CHUNK,
            seed=context.seed,
            advance=read,
        )
    generated = completions[kept:]  # by this run, which says nothing of how long an earlier one took for the others
    seconds = time.perf_counter() - started
    answers: dict[str, list[Completion]] = {name: completions[at :: len(variants)] for at, name in enumerate(variants)}
    write_jsonl(context.out / "answers.jsonl", (to_json(a) for variant in answers.values() for a in variant))
    write_atomic(context.out / "samples.md", side_by_side(files.answered_prompts(prompts, answers), answers))
    lengths = {prompt.id: len(prompt_tokens(prompt, host.tokenizer)) for prompt in prompts}
    costs = costs_of(answers, generated, lengths, seconds)
    Arms(arms=costs).write(context.out / files.ANSWER_COSTS.name)
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


def costs_of(
    answers: Mapping[str, Sequence[Completion]],
    generated: Sequence[Completion],
    lengths: Mapping[str, int],
    seconds: float,
) -> dict[str, Arm]:
    """What a thousand answers of each model take.

    Models that answer in one pass share its time by the tokens that they read and write.

    Args:
        answers: by model.
        generated: those of them that took `seconds` together.
        lengths: tokens of each prompt, by its id.
    """

    def tokens(completions: Sequence[Completion]) -> int:
        return sum(lengths[completion.prompt_id] + completion.tokens for completion in completions)

    per_token = seconds / tokens(generated) if generated else None
    arms = {}
    for model, of_model in answers.items():
        n = max(1, len(of_model))
        took = None if per_token is None else 1000 * per_token * tokens(of_model) / n
        usage = Usage(
            input_tokens=sum(lengths[completion.prompt_id] for completion in of_model) / n,
            output_tokens=sum(completion.tokens for completion in of_model) / n,
            seconds=took,
            cost=None,
        )
        arms[model] = Arm(what=_WHAT[model], per_1000_answers=usage, here=True)
    return arms


def side_by_side(
    prompts: Sequence[Prompt],
    answers: Mapping[str, Sequence[Completion]],
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
