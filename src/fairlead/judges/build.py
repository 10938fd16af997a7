"""From settings to a judge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlead.judges.base import Judge
from fairlead.judges.rubric import RubricJudge
from fairlead.judges.settings import JudgeSettings, RubricSettings


@contextmanager
def open_judge(settings: JudgeSettings, folder: Path) -> Iterator[Judge]:
    """The judge that the settings describe, with the project's ledger where it costs money or time.

    Args:
        folder: the project folder.
    """
    if isinstance(settings, RubricSettings):
        yield RubricJudge(settings, folder)
        return
    from fairlead.judges.ledger import Ledger
    from fairlead.judges.openai import OpenAIJudge  # the client takes a second to import

    with Ledger(Path(folder) / ".fairlead" / "ledger.sqlite") as ledger:
        yield OpenAIJudge(settings, ledger)
