"""Preference pairs without a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fairlead
from fairlead.data.reading.readers import read_preferences
from fairlead.errors import FairleadError, JudgeError
from fairlead.records import Sampled
from tests.support.judging import says
from tests.support.misbehaving import JudgeServer

PROMPTS = ["question one", "question two", "question three"]


def by_temperature(prompt: Any, temperature: float) -> str:
    return f"quality={8 if temperature < 1 else 3} answer"


def built(judge: Any, folder: Path, model: Any = by_temperature, **options: Any) -> fairlead.PreferenceSet:
    return fairlead.build_preferences(PROMPTS, model, judge, folder=folder, progress=False, **options)


def test_the_judge_picks_in_both_orders_and_every_pair_says_where_it_comes_from(
    judge: str, server: JudgeServer, tmp_path: Path
) -> None:
    pairs = built(judge, tmp_path)
    assert [(pair.prompt.text, pair.chosen[:9], pair.rejected[:9]) for pair in pairs] == [
        (prompt, "quality=8", "quality=3") for prompt in PROMPTS
    ]
    assert server.stats.paid == 6
    origin = pairs[0].provenance
    assert isinstance(origin, Sampled)
    assert (origin.chosen.sampling.temperature, origin.rejected.sampling.temperature) == (0.7, 1.2)
    assert len(origin.calls) == 2
    assert origin.judge == pairs.judge
    assert built(judge, tmp_path) == pairs
    assert server.stats.paid == 6


def test_pairs_are_written_as_a_project_reads_them_and_train_as_a_data_set(judge: str, tmp_path: Path) -> None:
    pairs = built(judge, tmp_path)
    pairs.write(tmp_path / "pairs.jsonl")
    assert read_preferences("pairs.jsonl", tmp_path).preferences == list(pairs)
    row = pairs.to_dataset()[0]
    assert row["prompt"] == [{"role": "user", "content": "question one"}]
    assert row["chosen"][0]["content"].startswith("quality=8")
    assert "3 preference pairs from 6 completions; verdicts: 3 win" in repr(pairs)


def test_a_verdict_that_is_none_makes_no_pair(tmp_path: Path) -> None:
    with JudgeServer(brain=says('{"verdict": "A"}')) as server:  # whatever stands first
        pairs = built(f"openai:m@{server.base_url}", tmp_path)
    assert (len(pairs), pairs.states["inconsistent"], pairs.missing) == (0, 3, 0)
    with JudgeServer(brain=says("Both have merits.")) as server:
        judge = f"openai:other@{server.base_url}"
        with pytest.raises(JudgeError, match="more than max_missing"):
            built(judge, tmp_path)
        pairs = built(judge, tmp_path, max_missing=1.0)
    assert (len(pairs), pairs.missing) == (0, 3)


def test_scores_give_margins(judge: str, tmp_path: Path) -> None:
    assert [pair.margin for pair in built(judge, tmp_path, judged_by="scores")] == [5.0] * 3
    assert len(built(judge, tmp_path, judged_by="scores", margin=5.0)) == 0


def test_examples_and_revisions_are_drawn_too(judge: str, tmp_path: Path) -> None:
    asked: list[Any] = []

    def model(prompt: Any, temperature: float) -> str:
        asked.append(prompt)
        last = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        return "quality=9 revised" if "meets this criticism" in last else f"quality={5 if temperature < 1 else 3}"

    pairs = built(
        judge, tmp_path, model, few_shot=1, examples=[{"prompt": "shown", "answer": "an example"}],
        constitution=["The answer is polite."], recipe="revision",
    )  # fmt: skip
    assert {pair.chosen for pair in pairs} == {"quality=9 revised"}
    assert {pair.provenance.chosen.variant for pair in pairs if isinstance(pair.provenance, Sampled)} == {"revision"}
    assert any(isinstance(prompt, list) and prompt[0]["content"] == "shown" for prompt in asked)
    assert any("The answer is polite." in str(prompt) for prompt in asked)


def test_a_model_on_this_machine_draws_the_same_again(tmp_path: Path, tiny_model: Path) -> None:
    judge = {"kind": "rubric", "checks": [{"kind": "length", "name": "short", "max_chars": 12}]}
    first = built(judge, tmp_path, tiny_model, max_new_tokens=4)
    assert [c.sampling.temperature for c in first.completions[:2]] == [0.7, 1.2]
    assert built(judge, tmp_path, tiny_model, max_new_tokens=4).completions == first.completions
    assert built(judge, tmp_path, tiny_model, max_new_tokens=4, seed=1).completions != first.completions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatures": [0.7]}, "a pair needs two completions per prompt"),
        ({"recipe": "best"}, r"pairs\.recipe: unknown value 'best', known: best_worst, all, revision"),
        ({"recipe": "revision"}, "recipe revision needs constitution"),
        ({"few_shot": 2}, "few_shot needs examples"),
        ({"constitution": []}, "constitution: holds no list of principles"),
        ({"model": lambda prompt: None}, "gave no answer"),
    ],
)
def test_wrong_arguments_are_named(judge: str, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FairleadError, match=message):
        built(judge, tmp_path, **options)


def test_the_event_loop_is_free_meanwhile(judge: str, tmp_path: Path) -> None:
    import asyncio

    async def both() -> fairlead.PreferenceSet:
        work = asyncio.create_task(
            fairlead.build_preferences_async(PROMPTS, by_temperature, judge, folder=tmp_path, progress=False)
        )
        await asyncio.sleep(0)
        assert not work.done()
        return await work

    assert len(asyncio.run(both())) == 3
