"""Prompts are built as the recipe says; what finds no room is left out from the far end; searches find the near."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fairlead.decide.answerers import Reply
from fairlead.decide.candidates import Instruction, Recipe, build, fill
from fairlead.decide.prompt_material import PromptMaterial
from fairlead.decide.retrieval.index import Bm25Index, EmbeddingIndex, FusedIndex
from fairlead.decide.retrieval.passages import Passage
from fairlead.decide.runner import CandidateResult
from fairlead.decide.scoring import Scorer
from fairlead.records import Example, Message, Prompt

SHOTS = [Example(Prompt.of(f"q{n}"), f"a{n}") for n in range(3)]
PASSAGES = [Passage("doc", f"fact {n}") for n in range(3)]


def texts(prompt: Prompt) -> list[str]:
    return [m.content for m in prompt.messages]


def test_examples_are_earlier_turns_and_the_nearest_comes_last() -> None:
    prompt = build(Prompt.of("now"), None, SHOTS[:2])
    assert [(m.role, m.content) for m in prompt.messages] == [
        ("user", "q1"), ("assistant", "a1"), ("user", "q0"), ("assistant", "a0"), ("user", "now"),
    ]  # fmt: skip


def test_an_instruction_takes_the_place_of_the_system_turn_or_stands_first() -> None:
    with_system = Prompt((Message("system", "old"), Message("user", "now")))
    assert texts(build(with_system, None)) == ["old", "now"]
    assert texts(build(with_system, "new")) == ["new", "now"]
    assert texts(build(Prompt.of("now"), "new", SHOTS[:1])) == ["new\n\nq0", "a0", "now"]


def test_the_last_turn_carries_the_passages() -> None:
    *_, last = texts(build(Prompt.of("now"), None, SHOTS[:1], PASSAGES[:2]))
    assert "BEGIN PASSAGE 2\nfact 1\nEND PASSAGE 2\n\nnow" in last


def test_what_finds_no_room_is_left_out_the_least_near_first() -> None:
    def fits(prompt: Prompt) -> bool:
        return len(prompt.messages) <= 3 and "fact 1" not in prompt.messages[-1].content

    filled = fill(Prompt.of("now"), None, SHOTS, PASSAGES, fits)
    assert (filled.shots, filled.passages) == (1, 1)
    assert texts(filled.prompt)[:2] == ["q0", "a0"]
    assert fill(Prompt.of("now"), None, SHOTS, PASSAGES, lambda _: False).shots == 0


def test_names_say_what_a_candidate_is() -> None:
    assert Recipe().name == "as given"
    both = Recipe(Instruction("instruction 1", "do"), 4, "nearest", 1, "bm25")
    assert (both.name, both.family) == (
        "instruction 1 + 4 nearest examples + 1 passage by bm25",
        "few-shot + retrieval",
    )


def test_fixed_examples_are_the_same_for_all_and_random_ones_follow_the_prompt() -> None:
    many = [Example(Prompt.of(f"q{n}"), "a") for n in range(50)]
    material = PromptMaterial(examples=many, seed=1)
    prompts = [Prompt.of(f"p{n}") for n in range(8)]
    fixed, drawn = Recipe(shots=3, selection="fixed"), Recipe(shots=3, selection="random")
    assert len({str(material.shots(p, fixed)) for p in prompts}) == 1
    assert len({str(material.shots(p, drawn)) for p in prompts}) > 1
    assert material.shots(prompts[0], drawn) == material.shots(prompts[0], drawn)
    assert material.shots(prompts[0], fixed) != PromptMaterial(examples=many, seed=2).shots(prompts[0], fixed)
    assert len(material.shots(prompts[0], Recipe(shots=99, selection="random"))) == 50


def test_recall_counts_a_passage_by_its_document_or_its_words() -> None:
    material = PromptMaterial(gold_passage="page")
    passages = [Passage("cvss.md", "High is  7.0\nto 8.9")]

    def recall(gold: object) -> float | None:
        return material.recall(Prompt.of("q", gold={} if gold is None else {"page": gold}), passages)

    assert recall("cvss.md") == 1
    assert recall("high is 7.0 to") == 1
    assert recall(["other.md", "7.0 to 8.9"]) == 1
    assert recall("low") == 0
    assert recall(None) is None
    assert recall("") is None
    assert recall(["", "  "]) is None
    assert recall(7) == 1
    assert recall(12345) == 0
    assert recall({"of": "another form"}) is None


def test_bm25_prefers_rare_common_words_and_survives_words_it_does_not_know() -> None:
    index = Bm25Index(["the disk is full", "the network is down", "the the the"])
    assert index.nearest("network trouble", 1) == [1]
    assert index.nearest("the DISK", 2)[0] == 0
    assert index.nearest("zebra", 2) == [0, 1]
    assert Bm25Index(["网络故障", "磁盘已满"]).nearest("磁盘", 1) == [1]
    assert index.nearest("", 5) == [0, 1, 2]
    assert Bm25Index(["...", "!"]).nearest("a", 1) == [0]


def test_embeddings_and_ranks_decide_as_they_say() -> None:
    def embed(texts: Sequence[str], searching: bool) -> np.ndarray:
        return np.array([[1.0, 0.0] if "cold" in text or "ice" in text else [0.0, 1.0] for text in texts])

    texts_ = ["the fire", "an ice cube", "a fire cold"]
    by_meaning = EmbeddingIndex(texts_, embed)
    assert by_meaning.nearest("cold", 2) == [1, 2]
    fused = FusedIndex(Bm25Index(texts_), by_meaning, 3)
    assert fused.nearest("cold", 1) == [2], "first by words, second by meaning"


@pytest.mark.parametrize("k", [0, 1, 3])
def test_no_search_gives_more_than_there_is(k: int) -> None:
    assert len(Bm25Index(["a b", "b c"]).nearest("b", k)) == min(k, 2)


def test_an_outage_takes_no_time_from_the_mean_of_those_that_answered() -> None:
    replies = (Reply("a", False, 10, 2, 4.0, None), Reply(None, False, None, None, 0.0, None, "refused"))
    result = CandidateResult(Recipe(), "m", replies, (0, 0), (0, 0), (None, None))
    prompts = [Prompt.of("one"), Prompt.of("two")]
    scored = Scorer([], [], None, Path()).candidate(result, {}, prompts)
    assert scored.usage.seconds == 4000
    silent = replace(result, replies=(replies[1], replies[1]))
    assert Scorer([], [], None, Path()).candidate(silent, {}, prompts).usage.seconds is None
