"""The graph: which stages there are, what each reads, and what it makes.

The functions are named by import path, because torch takes seconds to import and `fairlead status` should not.
"""

from __future__ import annotations

from fairlead.config.project import Config
from fairlead.pipeline.sources import (
    data_sources,
    decide_sources,
    dpo_sources,
    judge_check_sources,
    judge_sources,
    model_sources,
    probe_sources,
    sample_sources,
    sweep_sources,
)
from fairlead.pipeline.stage import Stage

_PREPARE = Stage(
    "prepare",
    "fairlead.data.prepare:run",
    sections=("data", "dev_prompts"),
    inputs=(),
    outputs=("sft.jsonl", "prompts.jsonl", "preferences.jsonl", "eval.jsonl", "dev.jsonl"),
    version=2,
    sources=data_sources,
    headline="eval",
    summary="read the data, drop duplicates and leaks",
)
_DECIDE = Stage(
    "decide",
    "fairlead.decide.stage:run",
    sections=(
        "decide",
        "model",
        "answers",
        "eval.metrics",
        "eval.max_missing",
        "eval_judge",
        "gate.criteria",
        "data.similarity",
        "data_check",
    ),
    inputs=("prepare",),
    outputs=("decision.json", "decision.md", "answers.jsonl"),
    scratch=("candidates",),
    sources=decide_sources,
    headline="verdict",
    summary="whether prompts, examples or documents are enough",
)
_SFT = Stage(
    "sft",
    "fairlead.training.sft:run",
    sections=("model", "lora", "sft"),
    inputs=("prepare",),
    guards=("decide",),
    outputs=("model",),
    scratch=("checkpoints",),
    sources=model_sources,
    headline="validation_loss",
    summary="supervised fine-tuning of the base model",
)
_SAMPLE = Stage(
    "sample",
    "fairlead.preferences.sample:run",
    sections=("model", "sample"),
    inputs=("prepare", "sft"),
    outputs=("completions.jsonl",),
    scratch=("chunks",),
    sources=sample_sources,
    headline="completions",
    summary="completions of the SFT model for every task prompt",
)
_JUDGE_CHECK = Stage(
    "judge_check",
    "fairlead.judges.qualification.stage:run",
    sections=("judge", "eval_judge", "judge_check"),
    inputs=(),
    outputs=("qualification.json",),
    version=3,
    sources=judge_check_sources,
    headline="accuracy",
    summary="whether the judges can be trusted",
)
_JUDGE = Stage(
    "judge",
    "fairlead.preferences.judge:run",
    sections=("judge", "pairs.recipe", "pairs.judged_by", "pairs.max_missing"),
    inputs=("prepare", "sample"),
    guards=("judge_check",),
    outputs=("verdicts.jsonl", "comparisons.jsonl"),
    version=2,
    sources=judge_sources("judge"),
    headline="verdicts",
    summary="the judge's verdicts on the completions",
)
_PAIRS = Stage(
    "pairs",
    "fairlead.preferences.pairs:run",
    sections=("pairs", "data", "data_check.drop"),
    inputs=("prepare", "sample", "judge"),
    outputs=("train.jsonl", "validation.jsonl"),
    headline="train",
    summary="preference triples, split",
)
_DATA_CHECK = Stage(
    "data_check",
    "fairlead.data.check:run",
    sections=("data_check", "data.similarity"),
    inputs=("prepare", "pairs"),
    outputs=("data_check.json",),
    headline="status",
    summary="whether the pairs are fit to train on",
)
_DPO = Stage(
    "dpo",
    "fairlead.training.dpo:run",
    sections=("model", "lora", "dpo", "watch"),
    inputs=("sft", "pairs", "judge_check"),
    guards=("decide", "data_check"),
    outputs=("model",),
    scratch=("checkpoints",),
    version=2,
    sources=dpo_sources,
    headline="validation_reward_gap",
    summary="direct preference optimisation from the SFT model",
)
_ANSWERS = Stage(
    "answers",
    "fairlead.evaluation.answers:run",
    sections=("model", "answers"),
    inputs=("prepare", "sft", "dpo"),
    outputs=("answers.jsonl", "samples.md"),
    scratch=("chunks",),
    sources=model_sources,
    headline="answers",
    summary="base, SFT and DPO answer the held-out prompts",
)
_EVAL = Stage(
    "eval",
    "fairlead.evaluation.compare:run",
    sections=("eval", "eval_judge", "judge"),
    inputs=("prepare", "answers"),
    guards=("judge_check",),
    outputs=("comparison.json", "scores.jsonl", "verdicts.jsonl"),
    version=4,
    sources=judge_sources("eval"),
    headline="win_rate",
    summary="metrics, scores and win rates with error bars",
)
_PROBE = Stage(
    "probe",
    "fairlead.evaluation.drift:run",
    sections=("model", "probe"),
    inputs=("prepare", "sft", "pairs", "dpo"),
    outputs=("probe.json",),
    sources=probe_sources,
    headline="implicit_reward_accuracy",
    summary="forgetting, drift from the reference, the implicit reward",
)
_GATE = Stage(
    "gate",
    "fairlead.gate.stage:run",
    sections=("gate", "gate_criteria", "data", "decide.waive"),
    inputs=("prepare", "sft", "pairs", "data_check", "dpo", "answers", "eval", "probe"),
    outputs=("gate.json",),
    version=3,
    headline="status",
    summary="the criteria that a release must meet",
)
_REPORT = Stage(
    "report",
    "fairlead.report.stage:run",
    sections=("report", "name"),
    inputs=(
        "prepare",
        "decide",
        "sft",
        "sample",
        "judge",
        "pairs",
        "data_check",
        "dpo",
        "answers",
        "eval",
        "probe",
        "gate",
    ),
    outputs=("report.md", "report.json"),
    version=2,
    sources=sweep_sources,
    headline="status",
    summary="the table, the samples and the lineage",
)

_ALL = (
    _PREPARE,
    _DECIDE,
    _JUDGE_CHECK,
    _SFT,
    _SAMPLE,
    _JUDGE,
    _PAIRS,
    _DATA_CHECK,
    _DPO,
    _ANSWERS,
    _EVAL,
    _PROBE,
    _GATE,
    _REPORT,
)


def stages_of(config: Config) -> tuple[Stage, ...]:
    """The stages of a project in the order they run; those that the config switches off are absent."""
    absent: set[str] = set()
    if config.sft is None:
        absent.add("sft")
    if not config.data.prompts:
        absent |= {"sample", "judge"}
    if config.judge_check is None:
        absent.add("judge_check")
    if config.probe is None:
        absent.add("probe")
    return tuple(stage for stage in _ALL if stage.name not in absent)
