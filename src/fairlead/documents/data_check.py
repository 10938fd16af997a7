"""What the checks of rows measured: data_check.json, rows_check.json, and what `fairlead data check --json` prints."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from fairlead.documents.base import Document
from fairlead.records import Interval

Kind = Literal["preferences", "sft", "prompts"]  # of rows: the keys of `data` that take them
Status = Literal["pass", "warn", "fail"]
Figure = int | float | str | None | Interval | dict[str, int] | dict[str, float]


class Finding(BaseModel):
    """What one check measured.

    Attributes:
        check: a name in `config.data.CHECK_NAMES`.
        status: waived failures stay "fail"; see `waived`.
        figures: what it measured, by name.
        rows: places of the rows that it is about.
        remedy: the command, or the step, that mends it; "" where nothing is to be mended.
        waived: the reason for which the config lets it fail, None where it does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    check: str
    status: Status
    figures: dict[str, Figure]
    rows: tuple[str, ...] = ()
    remedy: str = ""
    waived: str | None = None


class DataCheck(Document):
    """The findings of all checks on the pairs, the SFT rows or the prompts of a file or a stage.

    Attributes:
        source: the file or the stage that the rows come from.
        rows: how many rows were checked.
        status: the worst of the checks that are not waived.
    """

    source: str
    kind: Kind
    rows: int
    findings: tuple[Finding, ...]
    status: Status

    @classmethod
    def of(cls, source: str, kind: Kind, rows: int, findings: tuple[Finding, ...]) -> DataCheck:
        """The findings with the status that follows from them."""
        counted = {finding.status for finding in findings if finding.waived is None}
        status: Status = "fail" if "fail" in counted else "warn" if "warn" in counted else "pass"
        return cls(source=source, kind=kind, rows=rows, findings=findings, status=status)

    def failed(self) -> list[Finding]:
        """The checks that failed and are not waived."""
        return [finding for finding in self.findings if finding.status == "fail" and finding.waived is None]


class RowsCheck(Document):
    """The findings on the SFT rows and on the prompts of a project; None where it has none."""

    sft: DataCheck | None = None
    prompts: DataCheck | None = None
