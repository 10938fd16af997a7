"""The `decide` stage: measures what prompts, examples and documents can do before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fairlead.config.decide import DecideSection, Target
from fairlead.config.stage_settings import DecideSettings
from fairlead.decide import document, markdown
from fairlead.decide.answerers import Answerer, LocalAnswerer, base_answerer, open_answerer
from fairlead.decide.candidates import split_dev
from fairlead.decide.prompt_material import PromptMaterial, examples_of, gather
from fairlead.decide.runner import CandidateResult, CandidateRunner
from fairlead.decide.scoring import Scorer, Table, Usage, mean
from fairlead.decide.search import CandidateSearch
from fairlead.decide.targets import targets_of
from fairlead.decide.training_data import examine
from fairlead.decide.verdict import conditions, five_lines, reach_verdict
from fairlead.documents.decision import Decision
from fairlead.errors import DataError
from fairlead.files import write_atomic, write_jsonl
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import Example, Prompt


def run(context: Context[DecideSettings]) -> Metrics:
    """Writes decision.json, decision.md (the same for people) and answers.jsonl (the rows behind them)."""
    section = context.settings.decide
    if section.waive is not None:
        return _write(context, document.waived(section.waive), [])
    metrics = context.settings.metrics
    targets = targets_of(section, context.settings.criteria, [metric.name for metric in metrics])
    scorer = Scorer(metrics, targets, context.settings.judge, context.folder)
    scored, tuning = split_dev(_dev_prompts(context), optimizing=section.instruction_optimizer is not None)
    examples = examples_of(context.read(files.SFT_ROWS), context.read(files.READY_PAIRS))
    material, left_out = gather(section, context.folder, examples, context.seed)
    for item in left_out:
        context.progress.line(f"      left out: {item.name}: {item.reason}")
    limit = context.settings.max_missing
    candidate_search = CandidateSearch(
        context, section, material, scorer, scored=scored, tuning=tuning, max_missing=limit
    )
    results, served = _measure(context, section, candidate_search, material, len(scored))
    values = [scorer.values(result, scored) for result in results]
    candidates = [
        scorer.candidate(result, table, scored, candidates=len(results))
        for result, table in zip(results, values, strict=True)
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
        [result.recipe for result in results],
        targets=targets,
        lines=five_lines(
            verdict,
            candidates,
            served,
            training,
            prompts=len(scored),
            min_examples=section.min_examples,
            targets=_targets_text(targets),
        ),
        conditions=conditions(candidates, training, min_examples=section.min_examples, targets=_targets_text(targets)),
        training=training,
        served=served,
        not_tried=candidate_search.not_tried,
        documents_left_out=left_out,
        prompts=len(scored),
        tuning_prompts=len(tuning),
    )
    unanswered = scorer.unanswered + sum(reply.text is None for result in results for reply in result.replies)
    return _write(context, decision, _answer_rows(results, values, scored)) | {"unanswered": unanswered}


def _write(context: Context[DecideSettings], decision: Decision, answers: Sequence[Mapping[str, Any]]) -> Metrics:
    decision.write(context.out / "decision.json")
    write_atomic(context.out / "decision.md", markdown.markdown(decision))
    write_jsonl(context.out / "answers.jsonl", answers)
    return {
        "verdict": decision.verdict,
        "why": decision.why,
        "needed": decision.needed,
        "prompts": decision.prompts,
    }


def _targets_text(targets: Sequence[Target]) -> str:
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


def _measure(
    context: Context[DecideSettings],
    section: DecideSection,
    candidate_search: CandidateSearch,
    material: PromptMaterial,
    prompts: int,
) -> tuple[list[CandidateResult], Usage | None]:
    """Every candidate on every model, the base first, and what serving a fine-tuned base would cost."""
    answers = context.settings.answers
    model = context.settings.model
    base = base_answerer(model, context.folder, answers, seed=context.seed, price_per_hour=section.price_per_hour)
    with _runner(context, base, material, prompts) as runner:
        instructions = candidate_search.instructions(runner)
        results = list(candidate_search.results(runner, instructions))
    served = _served(results[0], base, material.examples, section.price_per_hour)
    del base, runner  # frees the memory for the next model
    for settings in section.models:
        answerer = open_answerer(settings, context.folder, answers, seed=context.seed)
        with _runner(context, answerer, material, prompts) as runner:
            results += candidate_search.results(runner, instructions)
    return results, served


@contextmanager
def _runner(
    context: Context[DecideSettings], answerer: Answerer, material: PromptMaterial, prompts: int
) -> Iterator[CandidateRunner]:
    """A runner with a progress bar that grows: which candidates are tried depends on the results so far."""
    with context.progress.task("decide", f"asking {answerer.name}", prompts) as bar:
        done = 0
        labels: set[str] = set()

        def advance(label: str, count: int) -> None:
            nonlocal done
            labels.add(label)
            done += count
            bar.update(done, total=max(done, len(labels) * prompts))

        yield CandidateRunner(answerer, material, context.out / "candidates", advance)


def _served(
    as_given: CandidateResult, base: LocalAnswerer, examples: Sequence[Example], price_per_hour: float | None
) -> Usage | None:
    """What a fine-tuned model would cost: it reads the prompt alone and writes answers as long as the training ones.

    Its speed per token written is assumed to be that of the base model on the same prompts.
    """
    answer_tokens = mean([base.count(example.answer) for example in examples])
    tokens = sum(reply.output_tokens or 0 for reply in as_given.replies)
    if answer_tokens is None or not tokens:
        return None
    seconds = sum(reply.seconds for reply in as_given.replies) / tokens * answer_tokens * 1000
    return Usage(
        input_tokens=mean([reply.input_tokens for reply in as_given.replies]),
        output_tokens=answer_tokens,
        seconds=seconds,
        cost=None if price_per_hour is None else seconds / 3600 * price_per_hour,
    )


def _answer_rows(
    results: Sequence[CandidateResult], values: Sequence[Table], prompts: Sequence[Prompt]
) -> list[dict[str, Any]]:
    return [
        {
            "candidate": result.recipe.name,
            "model": result.model,
            "prompt_id": prompt.id,
            "text": reply.text,
            "values": {metric: column[number] for metric, column in table.items()},
        }
        for result, table in zip(results, values, strict=True)
        for number, (prompt, reply) in enumerate(zip(prompts, result.replies, strict=True))
    ]
