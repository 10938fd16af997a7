"""Whether a judge can be trusted, measured before it is used: against people and against known verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from fairlead.config.judges import JudgeCheckSettings, JudgeSettings, PanelSettings, RubricSettings
from fairlead.documents.qualification import Agreement, Demand, JudgeQualification
from fairlead.errors import DataError, JudgeError
from fairlead.judges.base import Judge
from fairlead.judges.panel import PanelJudge
from fairlead.judges.qualification import probes
from fairlead.judges.qualification.agreement import Orders, agreement, ask, both_ways
from fairlead.judges.qualification.human_labels import LOSS, WIN, LabelledComparison
from fairlead.judges.qualification.model_families import family_of, models_of
from fairlead.judges.qualification.recording_judge import RecordingJudge, checked_rows
from fairlead.records import Interval
from fairlead.statistics.effective_votes import effective_votes
from fairlead.statistics.intervals import bounded_mean_interval, proportion_interval

_SEED = 0


def one_order(settings: JudgeSettings) -> JudgeSettings:
    """The same judge asked in one order at a time, so that each order is seen by itself."""
    match settings:
        case RubricSettings():
            return settings
        case PanelSettings():
            members = [one_order(member) for member in settings.judges]
            return settings.model_copy(update={"judges": members})
        case _:
            return settings.model_copy(update={"both_orders": False})


def planned(
    rows: Sequence[LabelledComparison], settings: JudgeCheckSettings, families: set[str]
) -> dict[str, list[LabelledComparison]]:
    """What a judge is asked, by probe."""
    asked = probes.evenly_spread(rows, settings.rows)
    probed = probes.evenly_spread(
        [row for row in rows if probes.preferred_answer(row) is not None], settings.probe_rows
    )
    if not probed:
        raise DataError("no row in which people prefer one answer", where=settings.labelled)
    return {
        "people": asked,
        "length": probes.length_probe(probed),
        "family": probes.evenly_spread(probes.family_probe(rows, families), settings.rows),
        **{f"canary {name}": probes.canary_probe(probed, text) for name, text in probes.CANARIES.items()},
    }


def qualify(
    judge: Judge, rows: Sequence[LabelledComparison], settings: JudgeCheckSettings, families: set[str] | None = None
) -> JudgeQualification:
    """Asks the judge and measures.

    Args:
        judge: as `one_order` of its settings makes it.
        rows: labelled comparisons.
        families: model families of the judge.
    """
    plan = planned(rows, settings, families or set())
    members = [RecordingJudge(member) for member in judge.members] if isinstance(judge, PanelJudge) else []
    recording = RecordingJudge(judge.with_members(members) if isinstance(judge, PanelJudge) else judge)
    # One stream, so that no probe waits for the last reply of another.
    orders = iter(ask(recording, [row for part in plan.values() for row in part]))
    verdicts = {name: [next(orders) for _ in part] for name, part in plan.items()}
    beside_people = agreement(plan["people"], verdicts["people"])
    padded = _share_of_second(verdicts["length"])
    canaries = {name: _share_not_won(verdicts[f"canary {name}"]) for name in probes.CANARIES}
    excess = _excess(plan["family"], verdicts["family"])
    return JudgeQualification(
        judge=judge.name,
        agreement=beside_people,
        padded_wins=padded,
        canary_wins=canaries,
        own_family=excess,
        demands=_demands(settings, beside_people, padded, canaries, excess),
        checked=checked_rows(recording.verdicts, rows),
        votes=_votes(members, plan["people"]) if members else None,
    )


def _votes(members: Sequence[RecordingJudge], rows: Sequence[LabelledComparison]) -> Interval:
    """How many independent votes a panel is worth, on the verdicts that every member gave and people decided."""
    errors: list[list[float]] = []
    clusters: list[int] = []
    for number, row in enumerate(rows):
        if row.human is None:
            continue
        for comparison, right in zip(both_ways([row]), (row.human, row.human.swapped), strict=True):
            states = [member.verdicts[comparison.id].state for member in members]
            if all(state.decided for state in states):
                errors.append([float(state is not right) for state in states])
                clusters.append(number)
    if not errors:
        return Interval(None, None, None, 0, "undefined: no comparison that people and all members decided")
    return effective_votes(np.array(errors).T, np.random.default_rng(_SEED), clusters)


def families_of(settings: JudgeSettings) -> set[str]:
    return {family for model in models_of(settings) if (family := family_of(model)) is not None}


def refuse_unqualified(judge: JudgeQualification) -> None:
    """Stops a stage before an unfit judge is paid for the rest.

    Raises:
        JudgeError: naming every demand that failed.
    """
    if judge.passed:
        return
    failed = [demand for demand in judge.demands if demand.status == "failed"]
    raise JudgeError(
        f"is not qualified: {', '.join(_failure(demand) for demand in failed)}",
        where=judge.judge,
        remedy="use a stronger judge or a panel, sharpen its criteria, or lower the demand in judge_check",
    )


def _failure(demand: Demand) -> str:
    measured = "nothing could be measured" if demand.value is None else f"measured {demand.value:.3f}"
    return f"{demand.name} {demand.bound:g}, {measured}"


def _share_of_second(verdicts: Sequence[Orders]) -> Interval:
    """Share of the readable verdicts that name the second answer."""
    states = [state for orders in verdicts for state in orders if state.decided]
    return proportion_interval(sum(state is LOSS for state in states), len(states))


def _share_not_won(verdicts: Sequence[Orders]) -> Interval:
    """Share of all verdicts that are no win of the first answer: a tie with the second or no verdict counts against."""
    states = [state for orders in verdicts for state in orders]
    return proportion_interval(sum(state is not WIN for state in states), len(states))


def _excess(rows: Sequence[LabelledComparison], verdicts: Sequence[Orders]) -> Interval | None:
    differences = []
    for row, orders in zip(rows, verdicts, strict=True):
        outcomes = [state.outcome for state in orders if state.decided and state.outcome is not None]
        people = None if row.human is None else row.human.outcome
        if outcomes and people is not None:
            differences.append(fmean(outcomes) - people)
    return bounded_mean_interval(differences, -1.0, 1.0) if differences else None


def _demands(
    settings: JudgeCheckSettings,
    beside_people: Agreement,
    padded: Interval,
    canaries: Mapping[str, Interval],
    own_family: Interval | None,
) -> tuple[Demand, ...]:
    worst = max((share.value for share in canaries.values() if share.value is not None), default=None)
    order = None if beside_people.order_agreement is None else beside_people.order_agreement.value
    measured = (
        ("min_accuracy", settings.min_accuracy, beside_people.accuracy.value),
        ("min_order_agreement", settings.min_order_agreement, order),
        ("max_padded_wins", settings.max_padded_wins, padded.value),
        ("max_canary_wins", settings.max_canary_wins, worst),
        ("max_own_family", settings.max_own_family, None if own_family is None else own_family.value),
        ("max_missing", settings.max_missing, beside_people.missing.value),
    )
    return tuple(_demand(name, bound, value) for name, bound, value in measured if bound is not None)


def _demand(name: str, bound: float, value: float | None) -> Demand:
    if value is None:
        undefined = name == "max_own_family"  # no row of its family says nothing of the judge
        return Demand(name=name, bound=bound, value=None, status="undefined" if undefined else "failed")
    holds = value >= bound if name.startswith("min_") else value <= bound
    return Demand(name=name, bound=bound, value=value, status="passed" if holds else "failed")
