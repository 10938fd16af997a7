"""Whether a judge can be trusted, found out before it is: beside people, and on comparisons whose verdict is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from fairlead.config.judges import JudgeCheckSettings, JudgeSettings, PanelSettings, RubricSettings
from fairlead.errors import DataError, JudgeError
from fairlead.judges.base import Judge
from fairlead.judges.qualification import probes
from fairlead.judges.qualification.agreement import Agreement, Orders, agreement, ask
from fairlead.judges.qualification.human_labels import LOSS, WIN, Labelled
from fairlead.judges.qualification.model_families import family_of, models_of
from fairlead.records import Interval
from fairlead.statistics.intervals import bounded_mean_interval, proportion_interval

Status = Literal["passed", "failed", "undefined"]


@dataclass(frozen=True)
class Demand:
    """One minimum or maximum with what was found; undefined where nothing could be measured."""

    name: str
    bound: float
    value: float | None
    status: Status


@dataclass(frozen=True)
class Qualification:
    """What a judge showed.

    Attributes:
        agreement: beside people, in both orders.
        padded_wins: share of verdicts for an answer that says itself twice, against itself.
        canary_wins: share of questions in which each constant answer does not lose against the answer that people
            prefer: verdicts for it, ties, and questions without a verdict.
        own_family: its preference for answers of its own model family (win 1, tie ½, loss 0) less that of people;
            None where no row tells that one of two answers comes from it.
        demands: what the project asks of it.
    """

    judge: str
    agreement: Agreement
    padded_wins: Interval
    canary_wins: Mapping[str, Interval]
    own_family: Interval | None
    demands: tuple[Demand, ...]

    @property
    def passed(self) -> bool:
        """No demand failed. What is undefined (no row of the judge's family) cannot be demanded."""
        return all(demand.status != "failed" for demand in self.demands)

    @property
    def unmeasured(self) -> str | None:
        """What could not be measured, and what it takes; None where everything was."""
        if self.own_family is not None:
            return None
        return (
            "the family probe measured nothing: no row names a model of the judge's family beside one of another "
            "(first_model, second_model)"
        )


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


def planned(rows: Sequence[Labelled], settings: JudgeCheckSettings, families: set[str]) -> dict[str, list[Labelled]]:
    """What a judge is asked, by probe."""
    asked = probes.spread(rows, settings.rows)
    probed = probes.spread([row for row in rows if probes.better(row) is not None], settings.probe_rows)
    if not probed:
        raise DataError("no row in which people prefer one answer", where=settings.labelled)
    return {
        "people": asked,
        "length": probes.length_probe(probed),
        "family": probes.spread(probes.family_probe(rows, families), settings.rows),
        **{f"canary {name}": probes.canary_probe(probed, text) for name, text in probes.CANARIES.items()},
    }


def qualify(
    judge: Judge, rows: Sequence[Labelled], settings: JudgeCheckSettings, families: set[str] | None = None
) -> Qualification:
    """Asks the judge and measures.

    Args:
        judge: as `one_order` of its settings makes it.
        rows: labelled comparisons.
        families: model families of the judge.
    """
    plan = planned(rows, settings, families or set())
    together = [row for part in plan.values() for row in part]
    answers = iter(ask(judge, together))  # one stream, so that no probe waits for the last reply of another
    verdicts = {name: [next(answers) for _ in part] for name, part in plan.items()}
    found = agreement(plan["people"], verdicts["people"])
    padded = _share_of_second(verdicts["length"])
    canaries = {name: _share_not_won(verdicts[f"canary {name}"]) for name in probes.CANARIES}
    own = _excess(plan["family"], verdicts["family"])
    demands = _demands(settings, found, padded, canaries, own)
    return Qualification(judge.name, found, padded, canaries, own, demands)


def families_of(settings: JudgeSettings) -> set[str]:
    return {family for model in models_of(settings) if (family := family_of(model)) is not None}


def refuse_unqualified(found: Qualification) -> None:
    """Stops a stage before an unfit judge is paid for the rest.

    Raises:
        JudgeError: naming every demand that failed.
    """
    if found.passed:
        return
    failed = [demand for demand in found.demands if demand.status == "failed"]
    words = ", ".join(f"{d.name} {d.bound:g}, found {d.value:.3f}" for d in failed if d.value is not None)
    raise JudgeError(
        f"is not qualified: {words}",
        where=found.judge,
        remedy="use a stronger judge or a panel, sharpen its criteria, or lower the demand in judge_check",
    )


def _share_of_second(verdicts: Sequence[Orders]) -> Interval:
    """Share of the readable verdicts that name the second answer."""
    given = [state for orders in verdicts for state in orders if state.decided]
    return proportion_interval(sum(state is LOSS for state in given), len(given))


def _share_not_won(verdicts: Sequence[Orders]) -> Interval:
    """Share of all verdicts that are no win of the first answer: a tie with the second or no verdict counts against."""
    states = [state for orders in verdicts for state in orders]
    return proportion_interval(sum(state is not WIN for state in states), len(states))


def _excess(rows: Sequence[Labelled], verdicts: Sequence[Orders]) -> Interval | None:
    differences = []
    for row, orders in zip(rows, verdicts, strict=True):
        outcomes = [state.outcome for state in orders if state.decided and state.outcome is not None]
        people = None if row.human is None else row.human.outcome
        if outcomes and people is not None:
            differences.append(fmean(outcomes) - people)
    return bounded_mean_interval(differences, -1.0, 1.0) if differences else None


def _demands(
    settings: JudgeCheckSettings,
    found: Agreement,
    padded: Interval,
    canaries: Mapping[str, Interval],
    own: Interval | None,
) -> tuple[Demand, ...]:
    worst = max((share.value for share in canaries.values() if share.value is not None), default=None)
    order = None if found.order_agreement is None else found.order_agreement.value
    measured = (
        ("min_accuracy", settings.min_accuracy, found.accuracy.value),
        ("min_order_agreement", settings.min_order_agreement, order),
        ("max_padded_wins", settings.max_padded_wins, padded.value),
        ("max_canary_wins", settings.max_canary_wins, worst),
        ("max_own_family", settings.max_own_family, None if own is None else own.value),
        ("max_missing", settings.max_missing, found.missing.value),
    )
    return tuple(_demand(name, bound, value) for name, bound, value in measured if bound is not None)


def _demand(name: str, bound: float, value: float | None) -> Demand:
    if value is None:
        return Demand(name, bound, None, "undefined" if name == "max_own_family" else "failed")
    holds = value >= bound if name.startswith("min_") else value <= bound
    return Demand(name, bound, value, "passed" if holds else "failed")
