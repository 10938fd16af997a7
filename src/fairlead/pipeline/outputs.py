"""The files that one stage writes and another reads, with their types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fairlead.documents.data_check import DataCheck, RowsCheck
from fairlead.documents.decision import Decision
from fairlead.documents.diagnosis import Diagnosis
from fairlead.documents.drift import DriftResult
from fairlead.documents.evaluation import Arm, Arms, EvalResult
from fairlead.documents.gate import GateRecord
from fairlead.documents.pairs import JudgeCounts, PairCounts
from fairlead.documents.prepare import PrepareCounts
from fairlead.documents.qualification import Qualification
from fairlead.documents.report import Report
from fairlead.documents.training import DpoResult, Origin
from fairlead.pipeline import datasets
from fairlead.pipeline.stage import Inputs, Output
from fairlead.records import Completion, Prompt


def _path(path: Path) -> Path:
    return path


SFT_ROWS = Output("prepare", "sft.jsonl", datasets.examples)
TASK_PROMPTS = Output("prepare", "prompts.jsonl", datasets.prompts)
READY_PAIRS = Output("prepare", "preferences.jsonl", datasets.preferences)
EVAL_PROMPTS = Output("prepare", "eval.jsonl", datasets.prompts)
DEV_PROMPTS = Output("prepare", "dev.jsonl", datasets.prompts)
PREPARE_COUNTS = Output("prepare", "counts.json", PrepareCounts.read)

ROWS_CHECK = Output("rows_check", "rows_check.json", RowsCheck.read)

DECISION = Output("decide", "decision.json", Decision.read)
DECISION_PAGE = Output("decide", "decision.md", _path)
CANDIDATE_ANSWERS = Output("decide", "answers.jsonl", _path)

QUALIFICATION = Output("judge_check", "qualification.json", Qualification.read)

SFT_MODEL = Output("sft", "model", _path)
SFT_ORIGIN = Output("sft", "origin.json", Origin.read)
COMPLETIONS = Output("sample", "completions.jsonl", datasets.completions)
VERDICTS = Output("judge", "verdicts.jsonl", datasets.verdicts)
COMPARISONS = Output("judge", "comparisons.jsonl", _path)
JUDGE_COUNTS = Output("judge", "counts.json", JudgeCounts.read)

TRAIN_PAIRS = Output("pairs", "train.jsonl", datasets.preferences)
VALIDATION_PAIRS = Output("pairs", "validation.jsonl", datasets.preferences)
PAIR_COUNTS = Output("pairs", "counts.json", PairCounts.read)
DATA_CHECK = Output("data_check", "data_check.json", DataCheck.read)

DPO_MODEL = Output("dpo", "model", _path)
DPO_ORIGIN = Output("dpo", "origin.json", Origin.read)
DIAGNOSIS = Output("dpo", "diagnosis.json", Diagnosis.read)
DPO_METRICS = Output("dpo", "metrics.jsonl", _path)
DPO_RESULT = Output("dpo", "training.json", DpoResult.read)

ANSWERS = Output("answers", "answers.jsonl", datasets.completions)
ANSWER_COSTS = Output("answers", "arms.json", Arms.read)
ARM_ANSWERS = Output("arms", "answers.jsonl", datasets.completions)
ARMS = Output("arms", "arms.json", Arms.read)
SAMPLES = Output("answers", "samples.md", _path)
COMPARISON = Output("eval", "comparison.json", EvalResult.read)
SCORES = Output("eval", "scores.jsonl", _path)
EVAL_VERDICTS = Output("eval", "verdicts.jsonl", datasets.eval_verdicts)
DRIFT = Output("probe", "probe.json", DriftResult.read)

GATE_RECORD = Output("gate", "gate.json", GateRecord.read)
REPORT = Output("report", "report.json", Report.read)
REPORT_PAGE = Output("report", "report.md", _path)


def trained_models(inputs: Inputs) -> dict[str, Path]:
    """The folders of the trained models that a stage reads, by stage; stages that the project lacks are absent."""
    declared = [output for output in (SFT_MODEL, DPO_MODEL) if output in inputs.declared and inputs.has(output)]
    return {output.stage: inputs.path(output) for output in declared}


def arms_of(inputs: Inputs, price_per_hour: float | None) -> dict[str, Arm]:
    """What every arm is and costs, the project's models first.

    Args:
        price_per_hour: of the project's machine; None where it has no price.
    """
    read = [output.read(inputs.path(output)).arms for output in (ANSWER_COSTS, ARMS) if inputs.has(output)]
    return {name: arm.priced(price_per_hour) for arms in read for name, arm in arms.items()}


def answers_of_arms(inputs: Inputs) -> dict[str, list[Completion]]:
    """Every arm's answers to the held-out prompts, by arm, those of the project's models first."""
    present = [output for output in (ANSWERS, ARM_ANSWERS) if inputs.has(output)]
    return by_model(answer for output in present for answer in output.read(inputs.path(output)))


def answered_prompts(prompts: Sequence[Prompt], answers: Mapping[str, Sequence[Completion]]) -> list[Prompt]:
    """The prompt of every answer of an arm, in the order of the answers, which all arms share."""
    by_id = {prompt.id: prompt for prompt in prompts}
    return [by_id[answer.prompt_id] for answer in next(iter(answers.values()), ())]


def by_model(answers: Iterable[Completion]) -> dict[str, list[Completion]]:
    """Answers by who gave them, in order."""
    of: dict[str, list[Completion]] = {}
    for answer in answers:
        of.setdefault(answer.model, []).append(answer)
    return of
