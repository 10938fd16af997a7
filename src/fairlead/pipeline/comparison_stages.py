"""The stages after training: who answers the held-out prompts, how the answers are compared, what follows from it."""

from __future__ import annotations

from typing import Any

from fairlead.config import stage_settings as settings
from fairlead.config.project import Config
from fairlead.config.values.arms import PROMPTED
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Output, Stage

ANSWERS = Stage(
    "answers",
    "fairlead.evaluation.answers:run",
    settings=settings.AnswersSettings,
    inputs=(files.EVAL_PROMPTS, files.SFT_MODEL, files.DPO_MODEL),
    outputs=(files.ANSWERS, files.SAMPLES),
    records=(files.ANSWER_COSTS,),
    scratch=("chunks",),
    version=3,
    headline="answers",
    summary="{models} answer the held-out prompts",
)


def _sources_of_prompts(config: Config) -> tuple[Output[Any], ...]:
    """What the decision's best prompt is made of."""
    return (files.DECISION, files.SFT_ROWS, files.READY_PAIRS) if PROMPTED in config.arm_names else ()


ARMS = Stage(
    "arms",
    "fairlead.evaluation.arms:run",
    settings=settings.ArmsSettings,
    inputs=(files.EVAL_PROMPTS,),
    inputs_if=_sources_of_prompts,
    preflight="fairlead.evaluation.arms_files:preflight",
    runs_after=("answers",),
    outputs=(files.ARM_ANSWERS,),
    records=(files.ARMS,),
    scratch=("candidates",),
    headline="answers",
    summary="the best prompt and models from elsewhere answer them",
)
EVAL = Stage(
    "eval",
    "fairlead.evaluation.compare:run",
    settings=settings.EvalSettings,
    inputs=(files.EVAL_PROMPTS, files.ANSWERS, files.ARM_ANSWERS),
    runs_after=("judge_check",),
    outputs=(files.COMPARISON, files.SCORES, files.EVAL_VERDICTS),
    version=5,
    headline="win_rate",
    unanswered="unanswered",
    summary="metrics, scores and win rates with error bars",
)
DRIFT = Stage(
    "probe",
    "fairlead.evaluation.drift:run",
    settings=settings.DriftSettings,
    inputs=(files.EVAL_PROMPTS, files.VALIDATION_PAIRS, files.SFT_MODEL, files.DPO_MODEL),
    outputs=(files.DRIFT,),
    version=2,
    headline="implicit_reward_accuracy",
    summary="forgetting, drift from the reference, the implicit reward",
)
GATE = Stage(
    "gate",
    "fairlead.gate.stage:run",
    settings=settings.GateSettings,
    inputs=(
        files.EVAL_PROMPTS,
        files.SFT_ROWS,
        files.SFT_MODEL,
        files.TRAIN_PAIRS,
        files.VALIDATION_PAIRS,
        files.DATA_CHECK,
        files.DPO_MODEL,
        files.ANSWERS,
        files.ANSWER_COSTS,
        files.ARMS,
        files.COMPARISON,
        files.DRIFT,
    ),
    with_manifests=True,
    outputs=(files.GATE_RECORD,),
    version=4,
    headline="status",
    summary="the criteria that a release must meet",
)


def _training_records(config: Config) -> tuple[Output[Any], ...]:
    """A model that was made elsewhere has none."""
    return (files.DIAGNOSIS, files.DPO_METRICS) if config.trains_dpo else ()


REPORT = Stage(
    "report",
    "fairlead.report.stage:run",
    settings=settings.ReportSettings,
    inputs=(
        files.EVAL_PROMPTS,
        files.ROWS_CHECK,
        files.DECISION,
        files.SFT_MODEL,
        files.COMPLETIONS,
        files.JUDGE_COUNTS,
        files.PAIR_COUNTS,
        files.DATA_CHECK,
        files.DPO_MODEL,
        files.ANSWERS,
        files.ANSWER_COSTS,
        files.ARM_ANSWERS,
        files.ARMS,
        files.COMPARISON,
        files.EVAL_VERDICTS,
        files.DRIFT,
        files.GATE_RECORD,
    ),
    inputs_if=_training_records,
    project_files=("sweep/sweep.md", "sweep/frontier.svg", "sweep/seeds.md"),
    with_manifests=True,
    published=True,
    outputs=(files.REPORT_PAGE, files.REPORT),
    version=4,
    headline="status",
    summary="the table, the samples and the lineage",
)
