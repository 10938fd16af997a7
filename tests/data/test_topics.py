"""Prompts per topic."""

from __future__ import annotations

import pytest

from fairlead.data.checks.topics import Topics, topics_of
from fairlead.records import Prompt

SUBJECTS = {
    "cooking": "bake bread with flour yeast water and salt in the oven",
    "football": "the team scored a goal in the last minute of the match",
    "databases": "the query needs an index on the column of the table",
}


def topics_for(counts: dict[str, int]) -> Topics:
    texts = []
    for subject, count in counts.items():
        words = SUBJECTS[subject].split()
        texts += [" ".join(words[n % 4 :] + words[: n % 4]) + f" number {subject} {n}" for n in range(count)]
    return topics_of([Prompt.of(text) for text in texts], texts)


def test_topics_are_found_by_their_words() -> None:
    topics = topics_for({"cooking": 30, "football": 15, "databases": 15})
    assert not topics.declared
    biggest = [name for name, share in topics.sizes.items() if share > 0.05]
    assert any("flour" in name or "yeast" in name or "bread" in name or "oven" in name for name in biggest)
    assert sum(topics.sizes.values()) == pytest.approx(1.0)
    assert topics.effective > 2


def test_clusters_that_the_rows_name_are_the_topics() -> None:
    prompts = [Prompt.of(f"q{n}", cluster="a" if n < 3 else "b") for n in range(4)]
    topics = topics_of(prompts, [prompt.text for prompt in prompts])
    assert topics.declared
    assert topics.sizes == {"a": 0.75, "b": 0.25}
    assert topics.effective == pytest.approx(1.7548, abs=1e-4)  # exp(−¾ ln ¾ − ¼ ln ¼)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_prompts_are_one_topic_at_most(count: int) -> None:
    prompts = [Prompt.of(f"question {n}") for n in range(count)]
    assert len(topics_of(prompts, [prompt.text for prompt in prompts]).sizes) <= 1


def test_the_same_prompts_give_the_same_topics() -> None:
    assert topics_for({"cooking": 9, "football": 9}) == topics_for({"cooking": 9, "football": 9})
