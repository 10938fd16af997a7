"""A judge is qualified before it is trusted: every fault that the probes look for is found, and a fair judge passes."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead.config.judges import (
    JudgeCheckSettings,
    JudgeSettings,
    OpenAISettings,
    PanelSettings,
    RubricSettings,
)
from fairlead.documents.qualification import JudgeQualification
from fairlead.errors import DataError, JudgeError
from fairlead.judges.panel import PanelJudge
from fairlead.judges.qualification.human_labels import LOSS, TIE, WIN, LabelledComparison
from fairlead.judges.qualification.model_families import family_of, shared_lineage
from fairlead.judges.qualification.probes import CANARIES, evenly_spread, family_probe, said_twice
from fairlead.judges.qualification.qualify import one_order, qualify, refuse_unqualified
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Comparison, Prompt
from tests.support.judging import openai_judge, pairwise
from tests.support.misbehaving import Brain, JudgeServer, Messages

GOOD, BAD = "The capital of France is Paris.", "The capital of France is Lyon."


def rows(count: int = 8) -> list[LabelledComparison]:
    """Half of them with the better answer first."""
    rows_ = []
    for n in range(count):
        prompt, swapped = Prompt.of(f"question {n}"), n % 2 == 1
        answers = (BAD, GOOD) if swapped else (GOOD, BAD)
        rows_.append(LabelledComparison(Comparison(prompt, *answers), (LOSS if swapped else WIN,)))
    return rows_


def fair(a: str, b: str) -> int:
    """Prefers what names Paris; of two that do, the shorter."""
    if ("Paris" in a) != ("Paris" in b):
        return 1 if "Paris" in a else -1
    return (len(a) < len(b)) - (len(a) > len(b))


def checked(
    ledger: ReplyStore, brain: Brain, labelled: list[LabelledComparison] | None = None, **demands: Any
) -> JudgeQualification:
    settings = JudgeCheckSettings.model_validate({"labelled": "rows.jsonl", **demands})
    with JudgeServer(brain=brain) as server:
        judge = openai_judge(server, ledger, both_orders=False, model="claude-9")
        return qualify(judge, rows() if labelled is None else labelled, settings, {"Claude"})


def failed(qualification: JudgeQualification) -> set[str]:
    return {demand.name for demand in qualification.demands if demand.status == "failed"}


def test_a_fair_judge_qualifies(ledger: ReplyStore) -> None:
    qualification = checked(ledger, pairwise(fair))
    assert qualification.passed
    assert (qualification.agreement.accuracy.value, qualification.agreement.accuracy.n) == (1.0, 16)
    assert qualification.padded_wins.value == 0.0
    assert {name: share.value for name, share in qualification.canary_wins.items()} == dict.fromkeys(CANARIES, 0.0)
    assert qualification.own_family is None
    refuse_unqualified(qualification)


def test_a_judge_of_length_is_found_by_the_same_answer_said_twice(ledger: ReplyStore) -> None:
    longest = pairwise(lambda a, b: (len(a) > len(b)) - (len(a) < len(b)))
    qualification = checked(ledger, longest)
    assert qualification.padded_wins.value == 1.0
    assert "max_padded_wins" in failed(qualification)


def test_a_judge_that_prefers_a_place_is_found_by_the_orders_and_by_the_canaries(ledger: ReplyStore) -> None:
    qualification = checked(ledger, pairwise(lambda a, b: 1))
    assert qualification.agreement.order_agreement is not None
    assert qualification.agreement.order_agreement.value == 0.0
    assert qualification.canary_wins["empty words"].value == 0.5
    assert {"min_order_agreement", "max_canary_wins", "min_accuracy"} <= failed(qualification)


@pytest.mark.parametrize("name", CANARIES)
def test_a_judge_that_one_constant_answer_fools_is_found(ledger: ReplyStore, name: str) -> None:
    fooled = pairwise(lambda a, b: (CANARIES[name] in a) - (CANARIES[name] in b) or fair(a, b))
    qualification = checked(ledger, fooled)
    assert qualification.canary_wins[name].value == 1.0
    assert failed(qualification) == {"max_canary_wins"}
    with pytest.raises(JudgeError, match=r"is not qualified: max_canary_wins 0\.05, measured 1\.000"):
        refuse_unqualified(qualification)


def test_a_tie_with_a_canary_and_no_verdict_about_it_count_against_the_judge(ledger: ReplyStore) -> None:
    def ties(a: str, b: str) -> int:
        return 0 if any(text in (a, b) for text in CANARIES.values()) else fair(a, b)

    qualification = checked(ledger, pairwise(ties))
    assert {share.value for share in qualification.canary_wins.values()} == {1.0}
    assert "max_canary_wins" in failed(qualification)

    def silent(messages: Messages) -> str:
        return "no idea" if CANARIES["flattery"] in str(messages) else pairwise(fair)(messages)

    qualification = checked(ledger, silent, rows(9))
    assert qualification.canary_wins["flattery"].value == 1.0
    assert qualification.canary_wins["empty words"].value == 0.0


def test_what_could_not_be_measured_is_said(ledger: ReplyStore) -> None:
    qualification = checked(ledger, pairwise(fair))
    assert qualification.unmeasured is not None
    assert qualification.unmeasured.startswith("the family probe measured nothing")


def test_a_judge_that_prefers_its_own_family_more_than_people_do_is_found(ledger: ReplyStore) -> None:
    # Claude's answer stands first in four rows and second in two; people prefer it in two of the six.
    by_family = [
        LabelledComparison(
            Comparison(Prompt.of(f"q{n}"), "own", "other"), (WIN if n < 2 else LOSS,), (), ("claude-2", "gpt-4")
        )
        for n in range(4)
    ] + [
        LabelledComparison(Comparison(Prompt.of(f"q{n}"), "other", "own"), (WIN,), (), ("gpt-4", "claude-2"))
        for n in (4, 5)
    ]
    qualification = checked(ledger, pairwise(lambda a, b: (a == "own") - (b == "own")), by_family)
    assert qualification.own_family is not None
    assert (qualification.own_family.value, qualification.own_family.n) == (pytest.approx(4 / 6), 6)
    assert qualification.unmeasured is None
    assert "max_own_family" in failed(qualification)


def test_rows_of_unknown_or_of_two_related_models_do_not_probe_the_family() -> None:
    comparison = Comparison(Prompt.of("q"), "a", "b")
    models = [("", ""), ("claude-2", ""), ("claude-2", "claude-3"), ("gpt-4", "gpt-3.5")]
    assert family_probe([LabelledComparison(comparison, (WIN,), (), pair) for pair in models], {"Claude"}) == []


def test_a_demand_that_is_null_is_not_made(ledger: ReplyStore) -> None:
    qualification = checked(
        ledger, pairwise(lambda a, b: 1), min_order_agreement=None, max_canary_wins=None, min_accuracy=0.4
    )
    assert "min_order_agreement" not in {demand.name for demand in qualification.demands}
    assert failed(qualification) == {"max_padded_wins"}


def test_a_judge_that_gives_no_verdict_meets_no_demand(ledger: ReplyStore) -> None:
    qualification = checked(
        ledger, lambda messages: "I'm sorry, but I can't judge this.", rows(2), probe_rows=1, rows=2
    )
    assert {"min_accuracy", "min_order_agreement", "max_padded_wins", "max_missing"} <= failed(qualification)


def test_rows_without_a_better_answer_cannot_be_probed(ledger: ReplyStore) -> None:
    with pytest.raises(DataError, match="no row in which people prefer one answer"):
        checked(ledger, pairwise(fair), [LabelledComparison(Comparison(Prompt.of("q"), "a", "b"), (TIE,))])


def test_padding_repeats_the_answer_and_adds_no_word_of_its_subject() -> None:
    assert said_twice(GOOD).replace(GOOD, "").split("\n") == [
        "",
        "",
        "To say the same once more, in full and in detail:",
        "",
        "",
    ]


def test_rows_are_taken_evenly_from_the_whole_file() -> None:
    everything = rows(10)
    assert evenly_spread(everything, 5) == everything[::2]
    assert evenly_spread(everything, 20) == everything


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o-2024-08-06", "GPT"), ("openai/gpt-oss-20b", "GPT"), ("o3-mini", "GPT"), ("claude-sonnet-4", "Claude"),
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama"), ("lmsys/vicuna-7b-v1.5", "Llama"), ("gemma-2-9b-it", "Gemini"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen"), ("mixtral-8x7b", "Mistral"), ("EleutherAI/gpt-neo-125m", "EleutherAI"),
        ("models/my-judge", None), ("gptq-model", None),
    ],
)  # fmt: skip
def test_the_family_is_read_from_the_name(model: str, family: str | None) -> None:
    assert family_of(model) == family


def judge_of(model: str) -> OpenAISettings:
    return OpenAISettings(kind="openai", model=model)


RUBRIC = RubricSettings.model_validate({"kind": "rubric", "checks": [{"kind": "length", "name": "n", "max_words": 9}]})


@pytest.mark.parametrize(
    ("training", "evaluation", "common"),
    [
        (judge_of("gpt-4o"), judge_of("gpt-4o"), ("model", "gpt-4o")),
        (judge_of("gpt-4o"), judge_of("gpt-4o-mini"), ("family", "GPT")),
        (judge_of("gpt-4o"), judge_of("claude-sonnet-4"), None),
        (judge_of("a"), judge_of("b"), None),
        (PanelSettings(kind="panel", judges=[RUBRIC, judge_of("qwen2")]), judge_of("qwq-32b"), ("family", "Qwen")),
        (RUBRIC, RUBRIC, None),
    ],
)
def test_what_two_judges_have_in_common(
    training: JudgeSettings, evaluation: JudgeSettings, common: tuple[str, str] | None
) -> None:
    lineage = shared_lineage(training, evaluation)
    assert (None if lineage is None else (lineage.what, lineage.name)) == common
    if lineage is not None:
        assert lineage.name in lineage.sentence


def test_a_panel_says_how_many_independent_votes_it_is_worth(ledger: ReplyStore) -> None:
    """Two members are wrong on the same questions, a third on others."""

    def wrong_on(numbers: set[int]) -> Brain:
        def brain(messages: Messages) -> str:
            asked = " ".join(message["content"] for message in messages)
            flipped = any(re.search(rf"question {n}\b", asked) for n in numbers)
            return pairwise(lambda a, b: -fair(a, b) if flipped else fair(a, b))(messages)

        return brain

    brains = [wrong_on({0, 1, 2, 3}), wrong_on({0, 1, 2, 3}), wrong_on({10, 11, 12})]
    settings = JudgeCheckSettings.model_validate({"labelled": "rows.jsonl"})
    with ExitStack() as stack:
        servers = [stack.enter_context(JudgeServer(brain=brain)) for brain in brains]
        members = [
            openai_judge(server, ledger, both_orders=False, model=f"m{number}") for number, server in enumerate(servers)
        ]
        found = qualify(PanelJudge(members, "majority"), rows(24), settings, set())
        assert all(server.stats.repeated == 0 for server in servers), "the members' replies are in the ledger"
    assert found.votes is not None
    wrong = [[float(n in numbers) for n in range(24)] for numbers in ({0, 1, 2, 3}, {0, 1, 2, 3}, {10, 11, 12})]
    correlation = float(np.corrcoef(wrong)[np.triu_indices(3, 1)].mean())
    assert found.votes.value == pytest.approx(3 / (1 + 2 * correlation))
    assert found.votes.n == 48, "both orders of 24 questions"


def test_a_judge_by_itself_has_no_votes_to_count(ledger: ReplyStore) -> None:
    assert checked(ledger, pairwise(fair)).votes is None


def test_a_panel_is_asked_one_order_at_a_time_through_all_its_members() -> None:
    panel = one_order(PanelSettings(kind="panel", judges=[RUBRIC, judge_of("m")]))
    assert isinstance(panel, PanelSettings)
    assert panel.judges[0] == RUBRIC
    assert panel.judges[1].both_orders is False  # type: ignore[union-attr]


def test_what_a_check_costs_is_in_the_ledger_afterwards(ledger: ReplyStore, tmp_path: Path) -> None:
    first = checked(ledger, pairwise(fair))
    assert sum(row.replies for row in ledger.totals()) == 2 * (8 + 8 + 3 * 8)
    assert {row.read for row in ledger.totals()} == {80}
    assert first.passed
