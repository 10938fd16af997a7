"""The graph of stages: what each one reads and what it writes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fairlead.config import stage_settings as settings
from fairlead.config.project import Config
from fairlead.config.training import DpoSection
from fairlead.pipeline import outputs as files
from fairlead.pipeline.comparison_stages import ANSWERS, ARMS, DRIFT, EVAL, GATE, REPORT
from fairlead.pipeline.stage import Output, Stage

PREPARE = Stage(
    "prepare",
    "fairlead.data.prepare:run",
    settings=settings.PrepareSettings,
    outputs=(
        files.SFT_ROWS,
        files.TASK_PROMPTS,
        files.READY_PAIRS,
        files.EVAL_PROMPTS,
        files.DEV_PROMPTS,
        files.PREPARE_COUNTS,
    ),
    version=3,
    headline="eval",
    summary="read the data, drop duplicates and leaks",
)


ROWS_CHECK = Stage(
    "rows_check",
    "fairlead.data.rows_check:run",
    settings=settings.RowsCheckSettings,
    inputs=(files.SFT_ROWS, files.TASK_PROMPTS, files.EVAL_PROMPTS),
    outputs=(files.ROWS_CHECK,),
    headline="status",
    summary="whether the examples and prompts are fit to use",
)


def _decide_inputs(config: Config) -> tuple[Output[Any], ...]:
    """A waived decision reads nothing."""
    if config.decide.waive is not None:
        return ()
    return (files.DEV_PROMPTS, files.SFT_ROWS, files.TASK_PROMPTS, files.READY_PAIRS, files.PREPARE_COUNTS)


DECIDE = Stage(
    "decide",
    "fairlead.decide.stage:run",
    settings=settings.DecideSettings,
    inputs_if=_decide_inputs,
    runs_after=("prepare",),
    permission="fairlead.decide.permission:demand_fine_tuning",
    outputs=(files.DECISION, files.DECISION_PAGE, files.CANDIDATE_ANSWERS),
    scratch=("candidates",),
    version=2,
    headline="verdict",
    unanswered="unanswered",
    summary="whether prompts, examples or documents are enough",
)
JUDGE_CHECK = Stage(
    "judge_check",
    "fairlead.judges.qualification.stage:run",
    settings=settings.JudgeCheckStageSettings,
    outputs=(files.QUALIFICATION,),
    version=3,
    headline="accuracy",
    summary="whether the judges can be trusted",
)
SFT = Stage(
    "sft",
    "fairlead.training.sft:run",
    settings=settings.SftSettings,
    inputs=(files.SFT_ROWS,),
    runs_after=("rows_check", "decide"),
    outputs=(files.SFT_MODEL,),
    scratch=("checkpoints",),
    version=2,
    headline="validation_loss",
    summary="supervised fine-tuning of the base model",
)
IMPORTED_SFT = replace(
    SFT,
    function="fairlead.training.imported:run",
    settings=settings.ImportedSftSettings,
    inputs=(),
    runs_after=(),
    preflight="fairlead.models.imported.check:preflight",
    outputs=(files.SFT_MODEL, files.SFT_ORIGIN),
    scratch=(),
    version=1,
    headline="form",
    summary="the SFT model that was made elsewhere",
)


def _few_shot_examples(config: Config) -> tuple[Output[Any], ...]:
    return (files.SFT_ROWS,) if config.sample.few_shot else ()


SAMPLE = Stage(
    "sample",
    "fairlead.preferences.sample:run",
    settings=settings.SampleSettings,
    inputs=(files.TASK_PROMPTS, files.SFT_MODEL),
    inputs_if=_few_shot_examples,
    runs_after=("rows_check",),
    outputs=(files.COMPLETIONS,),
    scratch=("chunks",),
    version=2,
    headline="completions",
    summary="completions of the {start} model for every task prompt",
)
JUDGE = Stage(
    "judge",
    "fairlead.preferences.judge:run",
    settings=settings.JudgeStageSettings,
    inputs=(files.TASK_PROMPTS, files.COMPLETIONS),
    runs_after=("judge_check",),
    outputs=(files.VERDICTS, files.COMPARISONS, files.JUDGE_COUNTS),
    version=3,
    headline="verdicts",
    unanswered="unanswered",
    summary="the judge's verdicts on the completions",
)


def _sources_of_pairs(config: Config) -> tuple[Output[Any], ...]:
    """Verdicts on completions, or existing pairs; the eval prompts only if pairs that overlap them are dropped."""
    source: tuple[Output[Any], ...] = (files.READY_PAIRS,)
    if config.data.prompts:
        source = (files.TASK_PROMPTS, files.COMPLETIONS, files.VERDICTS)
    return (*source, files.EVAL_PROMPTS) if config.data_check.drop else source


PAIRS = Stage(
    "pairs",
    "fairlead.preferences.pairs:run",
    settings=settings.PairsSettings,
    inputs_if=_sources_of_pairs,
    outputs=(files.TRAIN_PAIRS, files.VALIDATION_PAIRS, files.PAIR_COUNTS),
    version=2,
    headline="train",
    summary="preference triples, split",
)
DATA_CHECK = Stage(
    "data_check",
    "fairlead.data.check:run",
    settings=settings.DataCheckStageSettings,
    inputs=(files.TRAIN_PAIRS, files.VALIDATION_PAIRS, files.EVAL_PROMPTS, files.PREPARE_COUNTS),
    outputs=(files.DATA_CHECK,),
    version=2,
    headline="status",
    summary="whether the pairs are fit to train on",
)


def _sources_of_label_noise(config: Config) -> tuple[Output[Any], ...]:
    """The files that the measured label noise is computed from, if training uses it."""
    if not isinstance(config.dpo, DpoSection) or config.dpo.label_noise != "measured":
        return ()
    return (files.PAIR_COUNTS, files.QUALIFICATION)


DPO = Stage(
    "dpo",
    "fairlead.training.dpo:run",
    settings=settings.DpoSettings,
    inputs=(files.SFT_MODEL, files.TRAIN_PAIRS, files.VALIDATION_PAIRS),
    inputs_if=_sources_of_label_noise,
    runs_after=("decide", "data_check"),
    outputs=(files.DPO_MODEL,),
    records=(files.DIAGNOSIS, files.DPO_METRICS, files.DPO_RESULT),
    scratch=("checkpoints",),
    version=3,
    headline="validation_reward_gap",
    summary="direct preference optimisation from the {start} model",
)
IMPORTED_DPO = replace(
    DPO,
    function="fairlead.training.imported:run",
    settings=settings.ImportedDpoSettings,
    inputs=(files.SFT_MODEL,),
    inputs_if=lambda _config: (),
    runs_after=(),
    preflight="fairlead.models.imported.check:preflight",
    outputs=(files.DPO_MODEL, files.DPO_ORIGIN),
    records=(),
    scratch=(),
    version=1,
    headline="form",
    summary="the DPO model that was made elsewhere",
)
ALL = (
    PREPARE,
    ROWS_CHECK,
    DECIDE,
    JUDGE_CHECK,
    SFT,
    SAMPLE,
    JUDGE,
    PAIRS,
    DATA_CHECK,
    DPO,
    ANSWERS,
    ARMS,
    EVAL,
    DRIFT,
    GATE,
    REPORT,
)


IMPORTED = (IMPORTED_SFT, IMPORTED_DPO)


def stages_of(config: Config) -> tuple[Stage, ...]:
    """The stages of a project in the order they run; those that the config switches off are absent.

    A model that was made elsewhere is imported in the place of its training, and for a DPO model no pairs are made.
    """
    absent: set[str] = set()
    if config.sft is None:
        absent.add("sft")
    if not config.data.prompts:
        absent |= {"sample", "judge"}
    if not config.data.sft and not config.data.prompts:
        absent.add("rows_check")
    if config.judge_check is None:
        absent.add("judge_check")
    if not config.arms:
        absent.add("arms")
    if config.probe is None:
        absent.add("probe")
    if not config.trains_dpo:
        absent |= {"sample", "judge", "pairs", "data_check"}
    instead = {
        **({} if config.trains_sft else {"sft": IMPORTED_SFT}),
        **({} if config.trains_dpo else {"dpo": IMPORTED_DPO}),
    }
    return tuple(instead.get(stage.name, stage) for stage in ALL if stage.name not in absent)
