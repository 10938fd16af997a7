"""The `judge_check` stage: the project's judges are qualified before they are trusted."""

from __future__ import annotations

from fairlead.config.judges import JudgeSettings
from fairlead.config.stage_settings import JudgeCheckStageSettings
from fairlead.documents.qualification import JudgeQualification, Qualification
from fairlead.judges.build import open_judge
from fairlead.judges.qualification.human_labels import LabelledComparison, read_labelled
from fairlead.judges.qualification.qualify import families_of, one_order, qualify, refuse_unqualified
from fairlead.pipeline.stage import Context, Metrics


def run(context: Context[JudgeCheckStageSettings]) -> Metrics:
    """Writes qualification.json: what each judge of the project showed, and each row on which it was checked.

    Raises:
        JudgeError: if a judge does not meet the project's demands.
    """
    rows = read_labelled(context.path(context.settings.judge_check.labelled))
    judges = judges_of(context.settings.judge, context.settings.eval_judge)
    qualification = Qualification(**{role: _qualified(judge, rows, context) for role, judge in judges.items()})
    qualification.write(context.out / "qualification.json")
    by_role = qualification.by_role()
    unmeasured = {role: judge.unmeasured for role, judge in by_role.items() if judge.unmeasured is not None}
    for role, judge in by_role.items():
        if role in unmeasured:
            context.progress.line(f"      {judge.judge}: {unmeasured[role]}")
        refuse_unqualified(judge)
    return {
        "judges": {role: judge.judge for role, judge in by_role.items()},
        "accuracy": next(iter(by_role.values())).agreement.accuracy.value,
        "unmeasured": unmeasured,
    }


def judges_of(pairs: JudgeSettings | None, comparison: JudgeSettings | None) -> dict[str, JudgeSettings]:
    """The judges that are checked, by what they judge; one that judges both is checked once."""
    by_role = {"pairs": pairs, "comparison": None if comparison == pairs else comparison}
    return {role: judge for role, judge in by_role.items() if judge is not None}


def _qualified(
    settings: JudgeSettings, rows: list[LabelledComparison], context: Context[JudgeCheckStageSettings]
) -> JudgeQualification:
    with open_judge(one_order(settings), context.folder) as judge:
        return qualify(judge, rows, context.settings.judge_check, families_of(settings))
