"""The `data_check` stage: no training on preference pairs that fail a check which the config does not waive."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fairlead.config.data import CheckName, DataCheckSettings
from fairlead.config.stage_settings import DataCheckStageSettings
from fairlead.data.checks.findings import check_of
from fairlead.data.checks.quality import check_pairs
from fairlead.data.reading.any_rows import WORDS
from fairlead.documents.data_check import DataCheck
from fairlead.errors import DataError
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import Preference, Prompt, Sampled
from fairlead.text.words import asked


def run(context: Context[DataCheckStageSettings]) -> Metrics:
    """Writes data_check.json.

    Raises:
        DataError: naming every check that failed and is not waived.
    """
    settings = context.settings.data_check
    pairs: list[Preference] = []
    places: list[str] = []
    for name, output in (("train", files.TRAIN_PAIRS), ("validation", files.VALIDATION_PAIRS)):
        part = context.read(output)
        pairs += part
        places += [f"{name}:{number}" for number in range(1, len(part) + 1)]
    eval_prompts = context.read(files.EVAL_PROMPTS)
    report = check_pairs(
        pairs,
        places,
        settings,
        source="pairs",
        similarity=context.settings.similarity,
        eval_texts=[asked(prompt) for prompt in eval_prompts],
        mend=partial(_remedy, sampled=any(isinstance(pair.provenance, Sampled) for pair in pairs)),
    )
    report.write(context.out / "data_check.json")
    refuse_failed(report)
    # They are gone already, so nothing of them is trained on; what is left may still be too little.
    unread = context.read(files.PREPARE_COUNTS).dropped_import
    left_out = [f"{check_of(reason)} ({count} rows left out at import)" for reason, count in unread.items()]
    return {
        "status": "warn" if left_out and report.status == "pass" else report.status,
        "warned": [f.check for f in report.findings if f.status == "warn"] + left_out,
        "waived": {f.check: f.waived for f in report.findings if f.waived is not None},
    }


def _remedy(check: str, *, sampled: bool) -> str:
    drop = f"in fairlead.yaml: data_check: {{drop: [{check}]}}; then run: fairlead run"
    if check == "truncated" and sampled:
        return f"raise sample.max_new_tokens if the answers are cut there; or leave these pairs out, {drop}"
    return drop


def without_faults(
    pairs: Sequence[Preference], drop: Sequence[CheckName], *, similarity: float, eval_prompts: Sequence[Prompt]
) -> tuple[list[Preference], dict[str, int]]:
    """The pairs without those that the named checks are about, and how many each check is about."""
    places = [str(number) for number in range(len(pairs))]
    texts = [asked(prompt) for prompt in eval_prompts]
    report = check_pairs(
        pairs, places, DataCheckSettings(), source="pairs", similarity=similarity, mend=str, eval_texts=texts
    )
    rows_of = {finding.check: finding.rows for finding in report.findings if finding.check in drop}
    faulty = {place for faulty_rows in rows_of.values() for place in faulty_rows}
    remaining = [pair for pair, place in zip(pairs, places, strict=True) if place not in faulty]
    return remaining, {check: len(faulty_rows) for check, faulty_rows in rows_of.items()}


def refuse_failed(report: DataCheck) -> None:
    """Stops before training.

    Raises:
        DataError: naming every check that failed and is not waived.
    """
    failed = report.failed()
    if not failed:
        return
    words = ", ".join(f"{f.check} ({len(f.rows)} rows)" if f.rows else f.check for f in failed)
    raise DataError(
        f"the {WORDS[report.kind]} fail these checks: {words}",
        where=report.source,
        remedy=f"{failed[0].remedy}; or waive it with a reason: data_check: {{waive: {{{failed[0].check}: why}}}}",
    )
