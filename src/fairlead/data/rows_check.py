"""The `rows_check` stage: no training on SFT rows and no sampling for prompts that fail a check that is not waived."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial

from fairlead.config.stage_settings import RowsCheckSettings
from fairlead.data.check import refuse_failed
from fairlead.data.checks.row_quality import check_rows
from fairlead.data.checks.row_tokens import token_count
from fairlead.documents.data_check import DataCheck, Kind, RowsCheck
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import Example, Prompt
from fairlead.text.words import asked


def run(context: Context[RowsCheckSettings]) -> Metrics:
    """Writes rows_check.json.

    Raises:
        DataError: naming every check that failed and is not waived.
    """
    settings = context.settings
    examples, prompts = context.read(files.SFT_ROWS), context.read(files.TASK_PROMPTS)
    eval_texts = [asked(prompt) for prompt in context.read(files.EVAL_PROMPTS)]
    record = RowsCheck(
        sft=_checked(context, "sft", settings.sft_file, examples, eval_texts) if examples else None,
        prompts=_checked(context, "prompts", settings.prompts_file, prompts, eval_texts) if prompts else None,
    )
    record.write(context.out / "rows_check.json")
    reports = [report for report in (record.sft, record.prompts) if report is not None]
    for report in reports:
        refuse_failed(report)
    return {
        "status": "warn" if any(report.status == "warn" for report in reports) else "pass",
        "warned": [f"{r.kind} {f.check}" for r in reports for f in r.findings if f.status == "warn"],
        "waived": {f"{r.kind} {f.check}": f.waived for r in reports for f in r.findings if f.waived is not None},
    }


def _checked(
    context: Context[RowsCheckSettings],
    kind: Kind,
    file: str | None,
    rows: Sequence[Example | Prompt],
    eval_texts: Sequence[str],
) -> DataCheck:
    """The findings on the rows of one file; those of SFT must fit into its `max_length`."""
    settings = context.settings
    counted = kind == "sft" and settings.sft_max_length is not None
    return check_rows(
        rows,
        [str(number) for number in range(1, len(rows) + 1)],
        settings.data_check,
        source=f"data.{kind}",
        similarity=settings.similarity,
        mend=partial(_remedy, kind, str(context.path(file or ""))),
        is_sft=kind == "sft",
        eval_texts=eval_texts,
        tokens=token_count(settings.model, context.folder) if counted else None,
        max_length=settings.sft_max_length or 0,
    )


def _remedy(kind: Kind, file: str, check: str) -> str:
    if check == "too_long":
        return "raise sft.max_length, or shorten the rows"
    clean = ["fairlead", "data", "clean", file, "--drop", check, "--out", "cleaned.jsonl"]
    return f"{shlex.join(clean)}, then name that file as data.{kind} in fairlead.yaml"
