"""What figures show and what they do not: statuses, numbers of prompts, verdicts, conditions, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from fairlead.config.decide import DecideSection, Target
from fairlead.config.release import Criterion
from fairlead.decide.metric_range import JUDGE_SCORE
from fairlead.decide.scoring import Candidate, Usage, figures_of, prompts_to_settle
from fairlead.decide.targets import targets_of
from fairlead.decide.verdict import Training, conditions, five_lines, reach_verdict
from fairlead.errors import ConfigError
from fairlead.statistics.intervals import proportion_interval

TARGET = [Target(metric="good", at_least=0.6)]
TRAINING = Training(1500, {"sft": 500, "prompts": 1000, "preferences": 0}, {"duplicates": 2}, {}, 0.25)


def candidate(
    right: int, wrong: int, *, family: Any = "instructions", candidates: int = 1, cost: float | None = None, **more: Any
) -> Candidate:
    values = [1.0] * right + [0.0] * wrong
    clusters = [str(n) for n in range(len(values))]
    figures = figures_of({"good": values}, clusters, TARGET, candidates=candidates)
    return Candidate(f"{family} {right}", "base", family, tuple(figures), Usage(100.0, 10.0, 5.0, cost), **more)


def verdict(*candidates: Candidate, prompts: int = 100) -> Any:
    return reach_verdict(candidates, prompts=prompts, min_prompts=50)


def test_a_figure_meets_or_misses_only_where_its_whole_interval_does() -> None:
    assert candidate(75, 25).status == "meets"
    assert candidate(65, 35).status == "open"
    assert candidate(55, 45).status == "open"
    assert candidate(45, 55).status == "misses"


def test_the_best_of_many_needs_more_to_be_called_enough() -> None:
    assert candidate(71, 29, candidates=1).status == "meets"
    assert candidate(71, 29, candidates=20).status == "open"
    assert candidate(45, 55, candidates=20).status == "misses", "that all miss needs no correction"


def test_one_that_meets_decides_and_prompting_comes_before_retrieval() -> None:
    met, documents = candidate(80, 20, family="few-shot"), candidate(99, 1, family="retrieval")
    assert verdict(candidate(10, 90), met, documents).conclusion == "prompting is enough"
    assert verdict(candidate(10, 90), documents).conclusion == "retrieval is enough"
    assert verdict(candidate(10, 90), candidate(20, 80, family="retrieval")).conclusion == "fine-tune"
    assert verdict(candidate(10, 90), candidate(62, 38)).conclusion == "not enough evidence"


def test_of_those_that_are_enough_the_cheapest_is_named() -> None:
    dear, cheap = candidate(99, 1, cost=9.0), candidate(80, 20, cost=0.1)
    assert verdict(dear, cheap).winner is cheap
    unpriced = replace(candidate(85, 15), usage=Usage(20.0, 10.0, 5.0, None))
    assert verdict(dear, cheap, unpriced).winner is unpriced, "one has no price, so tokens decide"


def test_the_nearest_is_nearest_on_all_targets_and_not_on_the_worst_alone() -> None:
    targets = [Target(metric=name, at_least=0.9) for name in ("form", "service", "severity")]

    def scoring(name: str, **right: int) -> Candidate:
        values = {metric: [1.0] * count + [0.0] * (100 - count) for metric, count in right.items()}
        figures = figures_of(values, [str(n) for n in range(100)], targets, candidates=2)
        return Candidate(name, "base", "instructions", tuple(figures), Usage(100.0, 10.0, 5.0, None))

    everywhere = scoring("short everywhere", form=30, service=30, severity=30)
    once = scoring("short once", form=90, service=90, severity=28)
    assert everywhere.margin > once.margin
    assert verdict(everywhere, once).nearest is once
    far, near = scoring("a", form=80, service=60, severity=90), scoring("b", form=70, service=70, severity=90)
    assert verdict(far, near).nearest is near, "equally short, so the worst target decides"


def test_a_few_prompts_are_not_enough_whatever_they_say() -> None:
    decision = verdict(candidate(0, 12), prompts=12)
    assert (decision.conclusion, decision.needed) == ("not enough evidence", 50)


def test_the_number_of_prompts_is_that_of_the_gap() -> None:
    near, far = candidate(63, 37), candidate(69, 31)
    assert near.figures[0].needed is not None
    assert far.figures[0].needed is not None
    assert near.figures[0].needed > 5 * far.figures[0].needed > 5 * 100
    assert verdict(near, far).needed == far.figures[0].needed, "one that is shown to be enough settles it"
    low, lower = candidate(57, 43), candidate(52, 48)
    assert verdict(low, lower).needed == low.figures[0].needed, "all must be shown to miss"


def test_equal_values_still_give_a_number() -> None:
    needed = prompts_to_settle("good", [1.0] * 4, 0.9, 0.95)
    assert needed is not None
    assert 50 < needed < 120
    assert prompts_to_settle(JUDGE_SCORE, [7.0, 8.0, 6.0], 7.5, 0.95) is not None


def test_an_undefined_metric_says_what_is_missing() -> None:
    figures = figures_of({"good": [None, None]}, ["a", "b"], TARGET, candidates=1)
    nothing = Candidate("as given", "base", "instructions", tuple(figures), Usage(None, None, None, None))
    decision = verdict(nothing)
    assert (decision.conclusion, decision.needed) == ("not enough evidence", None)
    assert "good is undefined on every dev prompt" in decision.why


def test_the_four_conditions_carry_their_evidence() -> None:
    tried = [candidate(30, 70, malformed=proportion_interval(40, 100)), candidate(40, 60, family="retrieval")]
    holding = conditions(tried, TRAINING, min_examples=1000, targets="good ≥ 0.6")
    assert [c.holds for c in holding] == ["yes", "yes", "not measured", "yes"]
    assert "1 tried; nearest to good ≥ 0.6: instructions 30, base with good 0.30 [0.22, 0.40]" in holding[0].evidence
    assert "1,500 distinct prompts; 500 SFT rows, 1,000 prompts for pairs; dropped: 2 duplicates" in holding[3].evidence
    [_, none, form, few] = conditions(tried[:1], TRAINING, min_examples=2000, targets="")
    assert (none.holds, form.holds, few.holds) == ("not measured", "yes", "no")
    assert "0.40 [0.31, 0.50] of the answers are malformed" in form.evidence


def lines(*candidates: Candidate) -> Sequence[str]:
    decision = verdict(*candidates)
    return five_lines(
        decision,
        candidates,
        Usage(20.0, 5.0, 1.0, None),
        TRAINING,
        prompts=100,
        min_examples=1000,
        targets="good ≥ 0.6",
    )


def test_a_manager_reads_five_lines() -> None:
    for summary in (lines(candidate(10, 90)), lines(candidate(90, 10)), lines(candidate(62, 38))):
        assert len(summary) == 5
        assert not any("\n" in line for line in summary)
    assert lines(candidate(10, 90))[0].startswith("Fine-tune: every candidate")
    assert "100 thousand tokens read" in lines(candidate(10, 90))[3]
    assert "without a long prompt, 20 thousand tokens read" in lines(candidate(10, 90))[3]


def test_targets_come_from_the_gate_where_none_are_given() -> None:
    gate = [
        Criterion(figure="table.good.dpo", at_least=0.6),
        Criterion(figure="table.good.dpo", above=0.7),
        Criterion(figure="table.other.delta_low", above=0),
        Criterion(figure="table.faithfulness.dpo", at_least=7),
        Criterion(figure="leaks", at_most=0),
    ]
    assert targets_of(DecideSection(), gate, ["good"]) == [Target(metric="good", at_least=0.7)]
    section = DecideSection.model_validate({"targets": [{"metric": "good", "at_least": 0.5}]})
    assert targets_of(section, gate, ["good"])[0].at_least == 0.5


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "there is no target"),
        ([{"metric": "godo", "at_least": 0.5}], "there is no metric godo — there are: good, judge_score"),
        ([{"metric": "good", "at_least": 1.0}], "no number of prompts can show"),
        ([{"metric": "good", "at_least": 0.5}] * 2, "two targets are on one metric"),
    ],
)
def test_a_target_that_cannot_be_used_is_one_line(targets: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        targets_of(DecideSection.model_validate({"targets": targets}), [], ["good"])
