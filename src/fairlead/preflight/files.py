"""Files, data sets, functions and schemas that the config names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from fairlead.checks import check_faults
from fairlead.errors import FairleadError
from fairlead.preflight.problem import Problem
from fairlead.preflight.scope import Scope

_ROWS = (".json", ".jsonl", ".parquet", ".csv", ".tsv")


def missing_files(scope: Scope) -> Iterator[Problem]:
    """Files that are not there or cannot be read."""
    for named in scope.named_paths():
        path = scope.path(named.text)
        is_file = named.names == "file" or (named.names == "dataset" and named.text.endswith(_ROWS))
        if is_file and not path.exists():
            yield Problem(named.key, f"{path} does not exist", "put the file there, or correct the path")
        elif is_file and not os.access(path, os.R_OK):
            yield Problem(named.key, f"{path} cannot be read", "give this user the right to read it")


def broken_checks(scope: Scope) -> Iterator[Problem]:
    """Checks whose function, schema or pattern cannot be used."""
    for key, error in check_faults(scope.config, scope.folder).items():
        problem = Problem.of(key, error)
        yield problem if problem.remedy else replace(problem, remedy="correct it, or remove the check")


def refused_by_stages(scope: Scope) -> Iterator[Problem]:
    """What the stages themselves refuse before they begin, such as an adapter that is not of this base."""
    for stage in scope.stages:
        try:
            stage.check(scope.config, scope.folder)
        except FairleadError as error:
            yield Problem.of(stage.name, error)
