"""From settings to a judge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlead.judges.base import Judge
from fairlead.judges.rubric import RubricJudge
from fairlead.judges.settings import JudgeSettings


@contextmanager
def open_judge(settings: JudgeSettings, folder: Path) -> Iterator[Judge]:
    """The judge that the settings describe.

    Args:
        folder: the project folder.
    """
    yield RubricJudge(settings, folder)
