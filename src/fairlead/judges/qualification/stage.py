"""The `judge_check` stage: the project's judges are qualified before they are trusted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fairlead.config.judges import JudgeCheckSettings, JudgeSettings
from fairlead.config.stage_settings import JudgeCheckStageSettings
from fairlead.files import write_json
from fairlead.judges.build import open_judge
from fairlead.judges.qualification.checked import Checked, Noting
from fairlead.judges.qualification.human_labels import Labelled, read_labelled
from fairlead.judges.qualification.qualify import Qualification, families_of, one_order, qualify, refuse_unqualified
from fairlead.pipeline.stage import Context, Metrics


def run(context: Context[JudgeCheckStageSettings]) -> Metrics:
    """Writes qualification.json: what each judge of the project showed, and each row on which it was checked.

    Raises:
        JudgeError: if a judge does not meet the project's demands.
    """
    check = context.settings.judge_check
    labelled = read_labelled(context.path(check.labelled))
    judges = judges_of(context.settings.judge, context.settings.eval_judge)
    found = {role: _qualified(judge, labelled, check, context.folder) for role, judge in judges.items()}
    record = {
        role: asdict(one) | {"passed": one.passed, "checked": [asdict(row) for row in rows]}
        for role, (one, rows) in found.items()
    }
    write_json(context.out / "qualification.json", record)
    for one, _ in found.values():
        if one.unmeasured is not None:
            context.progress.line(f"      {one.judge}: {one.unmeasured}")
        refuse_unqualified(one)
    first, _ = next(iter(found.values()))
    return {
        "judges": {role: one.judge for role, (one, _) in found.items()},
        "accuracy": first.agreement.accuracy.value,
        "unmeasured": {role: one.unmeasured for role, (one, _) in found.items() if one.unmeasured is not None},
    }


def judges_of(pairs: JudgeSettings | None, comparison: JudgeSettings | None) -> dict[str, JudgeSettings]:
    """The judges that are checked, by what they judge; one that judges both is checked once."""
    by_role = {"pairs": pairs, "comparison": None if comparison == pairs else comparison}
    return {role: judge for role, judge in by_role.items() if judge is not None}


def _qualified(
    settings: JudgeSettings, rows: list[Labelled], check: JudgeCheckSettings, folder: Path
) -> tuple[Qualification, list[Checked]]:
    with open_judge(one_order(settings), folder) as judge:
        noting = Noting(judge)
        return qualify(noting, rows, check, families_of(settings)), noting.checked(rows)
