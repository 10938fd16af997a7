"""The files that one stage writes and another reads, with their types."""

from __future__ import annotations

from pathlib import Path

from fairlead.documents.data_check import DataCheck, RowsCheck
from fairlead.documents.decision import Decision
from fairlead.documents.diagnosis import Diagnosis
from fairlead.documents.drift import DriftResult
from fairlead.documents.evaluation import EvalResult
from fairlead.documents.gate import GateRecord
from fairlead.documents.pairs import JudgeCounts, PairCounts
from fairlead.documents.prepare import PrepareCounts
from fairlead.documents.qualification import Qualification
from fairlead.documents.report import Report
from fairlead.documents.training import DpoResult, Origin
from fairlead.pipeline import datasets
from fairlead.pipeline.stage import Inputs, Output


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
