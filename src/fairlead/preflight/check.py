"""All checks together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.errors import FairleadError
from fairlead.pipeline.project import Project
from fairlead.preflight.base_model import find_models, unusable_quantization
from fairlead.preflight.endpoints import endpoints_of, missing_keys, unanswering
from fairlead.preflight.files import broken_checks, missing_files, refused_by_stages
from fairlead.preflight.lengths import too_long
from fairlead.preflight.packages import missing_packages
from fairlead.preflight.problem import Problem
from fairlead.preflight.resources import too_small
from fairlead.preflight.rows import DataRows, insufficient_evidence, read_data, too_few_rows
from fairlead.preflight.scope import Scope
from fairlead.preflight.targets import unusable_targets

if TYPE_CHECKING:  # it loads the statistics of judges, which a check that finds problems need not wait for
    from fairlead.cost.forecast import Forecast

_READ_ROWS = (
    "prepare",
    "rows_check",
    "decide",
    "sft",
    "sample",
    "judge",
    "pairs",
    "data_check",
    "dpo",
    "answers",
    "arms",
    "eval",
)


@dataclass(frozen=True)
class Preflight:
    """What was found before a run.

    Attributes:
        problems: everything that would stop the run, in the order of its stages as far as that is known.
        stages: names of the stages that are still to run.
        rows: how many rows each data file has, by its key.
        forecast: what the stages would ask and cost and how long they would take.
        notes: what stops nothing and should be known before the judge is paid.
    """

    problems: tuple[Problem, ...]
    stages: tuple[str, ...]
    rows: dict[str, int]
    forecast: Forecast | None
    notes: tuple[str, ...] = ()


def check(project: Project, until: str | None = None, *, force: Sequence[str] = (), offline: bool = False) -> Preflight:
    """Everything that would stop the stages that are still to run.

    Args:
        until, force: as those of `Project.run`.
        offline: send no request to endpoints, and ask no hub.
    """
    scope = Scope.of(project, until, force, offline=offline)
    stages = tuple(stage.name for stage in scope.stages)
    if not stages:
        return Preflight((), stages, {}, None)
    rows = read_data(scope) if scope.runs(*_READ_ROWS) else DataRows()
    problems = [*missing_files(scope), *broken_checks(scope), *rows.problems, *unusable_targets(scope)]
    problems += [*too_few_rows(scope, rows), *missing_packages(scope), *unusable_quantization(scope)]
    base, model_problems = find_models(scope)
    problems += [*model_problems, *refused_by_stages(scope)]
    if base is not None:
        problems += [*too_long(scope, rows, base), *too_small(scope, base)]
    expected: Forecast | None = None
    if not problems:
        from fairlead.cost.forecast import forecast

        try:
            expected = forecast(project, scope.stages, base.parameters if base is not None else None)
        except FairleadError as error:
            problems.append(Problem.of("judge", error))
    endpoints = endpoints_of(scope, expected.answered if expected is not None else ())
    keys = list(missing_keys(endpoints))
    problems += keys
    if not offline:
        without_key = {problem.where.removesuffix(".api_key_env") for problem in keys}
        problems += unanswering([item for item in endpoints if item.key not in without_key])
    notes = tuple(insufficient_evidence(scope, rows))
    return Preflight(tuple(dict.fromkeys(problems)), stages, rows.files, expected, notes)
