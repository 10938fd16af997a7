"""The `report` stage: report.json, the interface; report.md, the same for people, with the training's curves; and
reflection.md, what it means.
"""

from __future__ import annotations

import shutil

from fairlead.config.stage_settings import ReportSettings
from fairlead.documents.evaluation import EvalResult
from fairlead.documents.gate import GateRecord
from fairlead.documents.pairs import JudgeCounts
from fairlead.documents.report import (
    GateSummary,
    Judgements,
    Lineage,
    PairFigures,
    Report,
    StageRecord,
    TableRow,
    TrainedStageRecord,
    figures_of_arms,
    further_differences,
)
from fairlead.evaluation.answers import side_by_side
from fairlead.files import read_text, write_atomic
from fairlead.pipeline import outputs as files
from fairlead.pipeline.artifacts import Manifest, package_versions
from fairlead.pipeline.stage import Context, Metrics
from fairlead.report.examples import answer_pairs, examples_of, most_different
from fairlead.report.markdown import markdown
from fairlead.report.outcome import start_of
from fairlead.report.summary import reflection
from fairlead.report.training_plot import draw
from fairlead.training.diagnosis.curves import Curves
from fairlead.training.measurements import read_metrics

CURVES = "training.svg"
SWEEP = "sweep"  # folder that `fairlead sweep` fills


def run(context: Context[ReportSettings]) -> Metrics:
    """Writes report.json (`Report`), report.md, training.svg and reflection.md; the project copies them to `report`."""
    report = _report(context, context.read(files.COMPARISON), context.read(files.GATE_RECORD))
    report.write(context.out / "report.json")
    answers = files.answers_of_arms(context.inputs)
    prompts = files.answered_prompts(context.read(files.EVAL_PROMPTS), answers)
    before, after = ([answer.text for answer in answers[model]] for model in (start_of(report), "dpo"))
    pairs = answer_pairs(prompts, before, after, context.read(files.EVAL_VERDICTS))
    most = context.settings.report.samples
    samples = side_by_side(prompts, answers, most_different(pairs)[:most])
    curves = CURVES if draw(_curves(context), context.out / CURVES) else ""
    write_atomic(context.out / "report.md", markdown(report, samples, _sweep(context), curves))
    write_atomic(context.out / "reflection.md", reflection(report, examples_of(pairs)[:most]))
    return {"status": report.gate.status, "rows": len(report.table)}


def _report(context: Context[ReportSettings], result: EvalResult, gate: GateRecord) -> Report:
    inputs = context.inputs
    manifests = inputs.manifests()
    counts = context.read(files.JUDGE_COUNTS) if inputs.has(files.JUDGE_COUNTS) else None
    stages = {name: StageRecord(seconds=m.seconds, hash=m.hash, artifact=m.key) for name, m in manifests.items()}
    if files.DIAGNOSIS in inputs.declared:  # a model that was made elsewhere has none
        stages["dpo"] = TrainedStageRecord(**stages["dpo"].model_dump(), watch=context.read(files.DIAGNOSIS))
    return Report(
        name=context.settings.name,
        seed=context.seed,
        table=tuple(map(TableRow.of_row, result.table)),
        arms=figures_of_arms(files.arms_of(inputs, context.settings.price_per_hour), result.table),
        differences=further_differences(result.table),
        slices=result.slices,
        draws=result.draws,
        pairwise={str(of_pair.pair): PairFigures.of(of_pair) for of_pair in result.pairwise},
        decision=context.read(files.DECISION),
        prompts=result.prompts,
        missing=result.missing,
        judge=result.judge,
        plan=result.plan,
        warnings=result.caveats,
        answers=result.answers,
        judgements=judgements(result, counts),
        probe=context.read(files.DRIFT) if inputs.has(files.DRIFT) else None,
        gate=GateSummary(status=gate.status, criteria=gate.criteria, candidates=gate.candidates, advice=gate.advice),
        figures={name: dict(manifest.figures) for name, manifest in manifests.items()},
        stages=stages,
        lineage={name: _lineage(manifest) for name, manifest in manifests.items()},
        versions=package_versions(),
    )


def _lineage(manifest: Manifest) -> Lineage:
    return Lineage(
        inputs=dict(manifest.inputs),
        config=dict(manifest.config),
        files=dict(manifest.files),
        versions=dict(manifest.versions),
    )


def judgements(result: EvalResult, pairs: JudgeCounts | None) -> Judgements:
    """Every judgement of the run by its state.

    Args:
        pairs: the judge's counts of the training pairs; None where a project brings its own.
    """
    verdicts = {} if pairs is None else {"pairs": dict(pairs.states)}
    return Judgements(
        verdicts=verdicts | {str(of_pair.pair): of_pair.states for of_pair in result.pairwise},
        scores=result.score_states,
        flagged={"pairs": None if pairs is None else pairs.flagged, "comparison": result.flagged},
        panel_disagreement={
            "pairs": None if pairs is None else pairs.panel_disagreement,
            "comparison": result.panel_disagreement,
        },
    )


def _curves(context: Context[ReportSettings]) -> Curves:
    """Those of the training; empty for a model that was made elsewhere."""
    if files.DPO_METRICS not in context.inputs.declared:
        return Curves.from_metrics([])
    return Curves.from_metrics(read_metrics(context.read(files.DPO_METRICS)))


def _sweep(context: Context[ReportSettings]) -> str:
    """The pages of the sweep, its picture copied beside the report, and of the seeds; "" where none was made."""
    page, picture, seeds = (context.path(f"{SWEEP}/{name}") for name in ("sweep.md", "frontier.svg", "seeds.md"))
    if page.is_file() and picture.is_file():
        shutil.copyfile(picture, context.out / picture.name)
    titled = (("## Sweep", page), ("## Training seeds", seeds))
    return "\n\n".join(
        f"{title}\n\n{read_text(file).partition(chr(10))[2].strip()}" for title, file in titled if file.is_file()
    )
