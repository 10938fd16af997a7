from __future__ import annotations

import random

import pytest

from fairlead.data.splits import split_by_prompt
from fairlead.records import Message, Prompt

WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu"


def distinct(n: int) -> list[Prompt]:
    return [Prompt.of(f"question {number}") for number in range(n)]


def test_every_prompt_is_on_exactly_one_side_and_the_share_is_met() -> None:
    train, validation = split_by_prompt(distinct(50), 0.2, seed=1, threshold=0.8)
    assert sorted(train + validation) == list(range(50))
    assert len(validation) == 10


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    splits = [split_by_prompt(distinct(50), 0.2, seed=seed, threshold=0.8) for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


def test_the_order_of_the_rows_does_not_matter() -> None:
    prompts = distinct(40)
    shuffled = random.Random(5).sample(prompts, 40)
    validation_ids = [
        {rows[i].id for i in split_by_prompt(rows, 0.25, seed=0, threshold=0.8)[1]} for rows in (prompts, shuffled)
    ]
    assert validation_ids[0] == validation_ids[1]


@pytest.mark.parametrize("seed", range(10))
def test_near_duplicates_stay_together(seed: int) -> None:
    near = [Prompt.of(WORDS), Prompt.of(WORDS + " nu"), Prompt.of(WORDS.upper())]
    train, validation = split_by_prompt([*near, *distinct(7)], 0.4, seed=seed, threshold=0.8)
    assert {0, 1, 2} <= set(train) or {0, 1, 2} <= set(validation)


@pytest.mark.parametrize("seed", range(10))
def test_prompts_of_one_cluster_stay_together(seed: int) -> None:
    same = [Prompt.of(f"topic {n}", cluster="t") for n in range(3)]
    train, validation = split_by_prompt([*same, *distinct(7)], 0.4, seed=seed, threshold=0.8)
    assert {0, 1, 2} <= set(train) or {0, 1, 2} <= set(validation)


def test_a_cluster_joins_near_duplicates_of_its_members() -> None:
    prompts = [Prompt.of(WORDS, cluster="t"), Prompt.of("other", cluster="t"), Prompt.of(WORDS + " nu"), *distinct(1)]
    train, validation = split_by_prompt(prompts, 0.25, seed=0, threshold=0.8)
    assert (train, validation) == ([0, 1, 2], [3])


def test_a_system_instruction_that_all_share_joins_nothing() -> None:
    system = Message("system", "you are an assistant that answers every question in at most one line " * 3)
    prompts = [Prompt((system, Message("user", f"what is {n} and why"))) for n in range(10)]
    assert len(split_by_prompt(prompts, 0.3, seed=0, threshold=0.8)[1]) == 3


@pytest.mark.parametrize("fraction", [0.01, 0.99, 1.0])
def test_two_groups_give_each_side_at_least_one(fraction: float) -> None:
    train, validation = split_by_prompt(distinct(2), fraction, seed=0, threshold=0.8)
    assert len(train) == len(validation) == 1


def test_groups_larger_than_the_share_still_leave_both_sides_one() -> None:
    prompts = [Prompt.of(f"q {n}", cluster="ab"[n > 5]) for n in range(10)]
    train, validation = split_by_prompt(prompts, 0.1, seed=0, threshold=0.8)
    assert (len(train), len(validation)) == (6, 4)


def test_no_share_or_a_single_group_leaves_validation_empty() -> None:
    assert split_by_prompt(distinct(3), 0.0, seed=0, threshold=0.8) == ([0, 1, 2], [])
    assert split_by_prompt([Prompt.of("q")] * 3, 0.5, seed=0, threshold=0.8) == ([0, 1, 2], [])
    assert split_by_prompt([], 0.5, seed=0, threshold=0.8) == ([], [])
