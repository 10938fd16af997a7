"""The `decide` stage: measures what prompts, examples and documents can do before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fairlead.config.decide import DecideSection, Target
from fairlead.config.stage_settings import DecideSettings
from fairlead.decide import document
from fairlead.decide.answerers import LocalRespondent, Respondent, base_respondent, open_respondent
from fairlead.decide.candidate_search import Campaign
from fairlead.decide.prompt_material import Material, gather
from fairlead.decide.runner import Bench, Trial
from fairlead.decide.scoring import Scorer, Table, Usage, mean
from fairlead.decide.targets import targets_of
from fairlead.decide.training_data import examine
from fairlead.decide.verdict import conditions, five_lines, reach_verdict
from fairlead.errors import DataError
from fairlead.files import write_atomic, write_json, write_jsonl
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import Example, Prompt, content_id

_TUNING = 3  # with a writer, every third dev prompt shows it failures, and no candidate is scored on it


def run(context: Context[DecideSettings]) -> Metrics:
    """Writes decision.json, decision.md (the same for people) and answers.jsonl (the rows behind them)."""
    section = context.settings.decide
    if section.waive is not None:
        return _write(context, document.waived(section.waive), [])
    metrics = context.settings.metrics
    targets = targets_of(section, context.settings.criteria, [metric.name for metric in metrics])
    scorer = Scorer(metrics, targets, context.settings.judge, context.folder)
    scored, tuning = split_dev(_dev_prompts(context), writer=section.writer is not None)
    examples = _examples(context)
    material, left_out = gather(section, context.folder, examples, context.seed)
    for item in left_out:
        context.progress.line(f"      left out: {item.name}: {item.reason}")
    limit = context.settings.max_missing
    campaign = Campaign(context, section, material, scorer, scored=scored, tuning=tuning, max_missing=limit)
    trials, served = _measure(context, section, campaign, material, len(scored))
    values = [scorer.values(trial, scored) for trial in trials]
    candidates = [
        scorer.candidate(trial, found, scored, candidates=len(trials))
        for trial, found in zip(trials, values, strict=True)
    ]
    verdict = reach_verdict(candidates, prompts=len(scored), min_prompts=section.min_prompts)
    training = examine(
        context.read(files.SFT_ROWS),
        context.read(files.TASK_PROMPTS),
        context.read(files.READY_PAIRS),
        scorer.checks,
        context.read(files.PREPARE_COUNTS),
        settings=context.settings.data_check,
        similarity=context.settings.similarity,
    )
    decision = document.decision(
        verdict,
        candidates,
        [trial.recipe for trial in trials],
        targets=targets,
        lines=five_lines(
            verdict,
            candidates,
            served,
            training,
            prompts=len(scored),
            min_examples=section.min_examples,
            targets=_shown(targets),
        ),
        conditions=conditions(candidates, training, min_examples=section.min_examples, targets=_shown(targets)),
        training=training,
        served=served,
        skipped=campaign.skipped,
        documents_left_out=left_out,
        prompts=len(scored),
        tuning_prompts=len(tuning),
    )
    return _write(context, decision, _answer_rows(trials, values, scored))


def _write(
    context: Context[DecideSettings], decision: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]
) -> Metrics:
    write_json(context.out / "decision.json", decision)
    write_atomic(context.out / "decision.md", document.markdown(decision))
    write_jsonl(context.out / "answers.jsonl", answers)
    return {key: decision[key] for key in ("verdict", "why", "needed", "prompts")}


def _shown(targets: Sequence[Target]) -> str:
    return ", ".join(f"{target.metric} ≥ {target.at_least:g}" for target in targets)


def _dev_prompts(context: Context[DecideSettings]) -> list[Prompt]:
    dev = context.read(files.DEV_PROMPTS)
    if not dev:
        raise DataError(
            "there are no dev prompts to decide on",
            where="data.dev",
            remedy="give a file of them, more rows in data.prompts or data.sft, or decide: {waive: REASON}",
        )
    return dev


def split_dev(prompts: Sequence[Prompt], *, writer: bool) -> tuple[list[Prompt], list[Prompt]]:
    """(scored, tuning): with a writer, a third by content shows it failures, and no candidate is scored on that."""
    if not writer:
        return list(prompts), []
    scored: list[Prompt] = []
    tuning: list[Prompt] = []
    for prompt in prompts:
        number = int(content_id("tuning", prompt.cluster or prompt.id), 16)
        (scored if number % _TUNING else tuning).append(prompt)
    return scored, tuning


def _examples(context: Context[DecideSettings]) -> list[Example]:
    """The SFT rows; without them the better answers of ready pairs."""
    examples = context.read(files.SFT_ROWS)
    return examples or [Example(p.prompt, p.chosen) for p in context.read(files.READY_PAIRS)]


def _measure(
    context: Context[DecideSettings], section: DecideSection, campaign: Campaign, material: Material, prompts: int
) -> tuple[list[Trial], Usage | None]:
    """Every candidate on every model, the base first, and what a fine-tuned base would take to serve."""
    answers = context.settings.answers
    model = context.settings.model
    base = base_respondent(model, context.folder, answers, seed=context.seed, price_per_hour=section.price_per_hour)
    with _bench(context, base, material, prompts) as bench:
        instructions = campaign.instructions(bench)
        trials = list(campaign.trials(bench, instructions))
    served = _served(trials[0], base, material.examples, section.price_per_hour)
    del base, bench  # its weights make room for the next model's
    for settings in section.models:
        respondent = open_respondent(settings, context.folder, answers, seed=context.seed)
        with _bench(context, respondent, material, prompts) as bench:
            trials += campaign.trials(bench, instructions)
    return trials, served


@contextmanager
def _bench(
    context: Context[DecideSettings], respondent: Respondent, material: Material, prompts: int
) -> Iterator[Bench]:
    """A bench whose bar grows with the candidates, because which follow depends on what came before."""
    with context.progress.task("decide", f"asking {respondent.name}", prompts) as bar:
        done = 0
        seen: set[str] = set()

        def advance(label: str, count: int) -> None:
            nonlocal done
            seen.add(label)
            done += count
            bar.update(done, total=max(done, len(seen) * prompts))

        yield Bench(respondent, material, context.out / "candidates", advance)


def _served(
    bare: Trial, base: LocalRespondent, examples: Sequence[Example], price_per_hour: float | None
) -> Usage | None:
    """What a fine-tuned model would take: the prompt as it is given, an answer as long as those it learns from.

    Its speed is that of the base model on the same prompts, per token written.
    """
    written = mean([base.count(example.answer) for example in examples])
    tokens = sum(reply.output_tokens or 0 for reply in bare.replies)
    if written is None or not tokens:
        return None
    seconds = sum(reply.seconds for reply in bare.replies) / tokens * written * 1000
    return Usage(
        input_tokens=mean([reply.input_tokens for reply in bare.replies]),
        output_tokens=written,
        seconds=seconds,
        cost=None if price_per_hour is None else seconds / 3600 * price_per_hour,
    )


def _answer_rows(trials: Sequence[Trial], values: Sequence[Table], prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    return [
        {
            "candidate": trial.recipe.name,
            "model": trial.model,
            "prompt_id": prompt.id,
            "text": reply.text,
            "values": {metric: found[metric][number] for metric in found},
        }
        for trial, found in zip(trials, values, strict=True)
        for number, (prompt, reply) in enumerate(zip(prompts, trial.replies, strict=True))
    ]
