"""The `answers` stage: base, SFT and DPO answer the same held-out prompts, one set of base weights in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fairlead.config import AnswersSection, ModelSection
from fairlead.files import write_atomic, write_jsonl
from fairlead.models.generation import Request, TransformersGenerator
from fairlead.models.resumable import generate_resumable
from fairlead.models.views import ViewName, Views, views_of
from fairlead.preferences import rows
from fairlead.records import Completion, Prompt, Sampling, to_json
from fairlead.stages import Context, Figures

_BATCHES_PER_CHUNK = 4


def run(context: Context) -> Figures:
    """Writes answers.jsonl (every view's answers, view by view) and samples.md (side by side, for people)."""
    section: AnswersSection = context.section("answers")
    model: ModelSection = context.section("model")
    prompts = rows.prompts(context.inputs["prepare"].file("eval.jsonl"))
    sampling = Sampling(section.temperature, section.top_p, section.max_new_tokens)
    requests = [Request(prompt, sampling) for prompt in prompts]
    views = views_of(context.inputs)
    host = Views(model, context.folder, views)
    answers: dict[ViewName, list[Completion]] = {}
    known = 0
    with context.progress.task("answers", "held-out prompts", len(prompts) * len(views)) as bar:

        def advance(count: int) -> None:
            nonlocal known
            known += count
            bar.update(known)

        for name in views:
            with host.use(name) as policy:
                generator = TransformersGenerator(
                    policy, host.tokenizer, name=name, batch_size=section.batch_size, advance=advance
                )
                answers[name] = generate_resumable(
                    generator,
                    requests,
                    log=context.out / "chunks" / f"{name}.jsonl",
                    chunk=section.batch_size * _BATCHES_PER_CHUNK,
                    seed=context.seed,
                    advance=advance,
                )
    write_jsonl(context.out / "answers.jsonl", (to_json(a) for view in answers.values() for a in view))
    write_atomic(context.out / "samples.md", side_by_side(prompts, answers))
    everything = [answer for view in answers.values() for answer in view]
    cut = {name: sum(a.finish == "length" for a in view) / max(1, len(view)) for name, view in answers.items()}
    return {
        "answers": len(everything),
        "prompts": len(prompts),
        "cut_by_the_token_limit": cut,
        "distinct": {name: len({a.text for a in view}) / max(1, len(view)) for name, view in answers.items()},
        "mean_tokens": {name: sum(a.tokens for a in view) / max(1, len(view)) for name, view in answers.items()},
    }


def side_by_side(
    prompts: Sequence[Prompt], answers: Mapping[ViewName, Sequence[Completion]], most: int | None = None
) -> str:
    """Markdown with each prompt and its answers. Texts stand in code blocks, because model output is hostile."""
    parts: list[str] = []
    for number, prompt in enumerate(prompts[:most]):
        parts.append(f"### Prompt {number + 1} ({prompt.id})\n\n{_block(prompt.text)}")
        if prompt.gold:
            parts.append(f"**gold**\n\n{_block(', '.join(f'{k}: {v}' for k, v in prompt.gold.items()))}")
        for name, view in answers.items():
            cut = " (cut by the token limit)" if view[number].finish == "length" else ""
            parts.append(f"**{name}**{cut}\n\n{_block(view[number].text)}")
    return "\n\n".join(parts) + "\n"


def _block(text: str) -> str:
    """A code block whose fence is longer than any run of backticks in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
