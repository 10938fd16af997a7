"""The stage on real models: each task gets the verdict that it deserves."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from fairlead.config.judges import RubricSettings
from fairlead.decide.permission import demand_fine_tuning
from fairlead.errors import ConfigError, DecisionError
from fairlead.files import read_jsonl
from fairlead.pipeline.artifacts import Artifact
from fairlead.records import Example, Prompt
from tests.support.decide_projects import Shown, decide, prepared
from tests.support.reader import CODES, NAMES, fact, question
from tests.support.triage import COLOR, FORMAT, TRIAGE, tickets, triage

KEY = {"name": "key", "kind": "field", "field": "key", "pattern": r"is (\w+)"}


def keys(folder: Path, count: int) -> Artifact:
    """Questions whose answers stand in documents and nowhere else."""
    draw = Random(3)
    known = {name: draw.choice(CODES) for name in NAMES}
    dev = [
        Prompt.of(question(name), gold={"key": code, "page": fact(name, code)})
        for name, code in list(known.items())[:count]
    ]
    documents = folder / "documents"
    documents.mkdir(parents=True)
    for name, code in known.items():
        (documents / f"{name}.txt").write_text(fact(name, code), encoding="utf-8")
    return prepared(folder, dev, sft=[Example(Prompt.of(question("svc0")), "no idea")])


def test_examples_that_show_the_form_are_enough_and_sft_refuses(tmp_path: Path, reader: Path) -> None:
    decision, artifact = decide(
        tmp_path,
        triage(tmp_path, 60),
        model=reader,
        section={"targets": TRIAGE, "few_shot": {"ks": [1, 3]}},
        metrics=[FORMAT, COLOR],
    )
    assert decision["verdict"] == "prompting is enough", decision["lines"]
    assert decision["winner"]["family"] == "few-shot"
    bare = decision["candidates"][0]
    assert bare["candidate"] == "as given"
    assert bare["status"] == "misses"
    assert bare["malformed"]["value"] > 0.5
    assert len(decision["lines"]) == 5
    assert (
        decision["winner"]["per_1000_answers"]["input_tokens"] > 2 * decision["fine_tuned_would_take"]["input_tokens"]
    )
    assert {c["name"]: c["holds"] for c in decision["conditions"]}["prompting was tried and fell short"] == "no"
    with pytest.raises(DecisionError, match=r'prompting is enough .*waive: "your reason".*--until sft') as raised:
        demand_fine_tuning(artifact, stage="sft", folder=tmp_path)
    assert "\n" not in str(raised.value)


def test_answers_that_stand_in_documents_make_retrieval_enough(tmp_path: Path, reader: Path) -> None:
    decision, _ = decide(
        tmp_path,
        keys(tmp_path, 60),
        model=reader,
        section={
            "targets": [{"metric": "key", "at_least": 0.7}],
            "few_shot": None,
            "retrieval": {"documents": "documents", "ks": [1], "gold_passage": "page"},
        },
        metrics=[KEY],
    )
    assert decision["verdict"] == "retrieval is enough", decision["lines"]
    assert decision["winner"]["family"] == "retrieval"
    assert decision["winner"]["recall"]["value"] == 1
    assert {c["name"]: c["holds"] for c in decision["conditions"]}["retrieval does not catch the domain"] == "no"


def test_twelve_dev_prompts_are_not_enough_and_the_number_is_said(tmp_path: Path, reader: Path) -> None:
    decision, artifact = decide(
        tmp_path,
        triage(tmp_path, 12),
        model=reader,
        section={"targets": TRIAGE, "few_shot": {"ks": [1], "selection": ["fixed"]}},
        metrics=[FORMAT, COLOR],
    )
    assert decision["verdict"] == "not enough evidence"
    assert decision["needed"] >= 50
    assert f"about {decision['needed']}" in decision["lines"][-1]
    with pytest.raises(DecisionError, match=rf"about {decision['needed']} dev prompts as data\.dev"):
        demand_fine_tuning(artifact, stage="dpo", folder=tmp_path)


def test_a_task_that_no_prompt_solves_is_to_be_fine_tuned(tmp_path: Path, reader: Path) -> None:
    dev = [Prompt.of(text, gold={"severity": "none of these"}) for text, _ in tickets(60, 4)]
    sft = [Example(Prompt.of(text), f"severity : {color}") for text, color in tickets(20, 5)]
    decision, artifact = decide(
        tmp_path,
        prepared(tmp_path, dev, sft=sft),
        model=reader,
        section={"few_shot": {"ks": [2], "selection": ["random"]}, "price_per_hour": 3.6},
        metrics=[FORMAT, COLOR],
        criteria=[{"figure": "table.color.dpo", "at_least": 0.5}],
    )
    assert decision["verdict"] == "fine-tune"
    assert decision["targets"] == [{"metric": "color", "at_least": 0.5}], "the gate's own target"
    assert "collect examples first: 20 distinct prompts" in decision["lines"][-1]
    usage = decision["candidates"][0]["per_1000_answers"]
    assert usage["cost"] == pytest.approx(usage["seconds"] * 0.001)
    demand_fine_tuning(artifact, stage="sft", folder=tmp_path)


def test_a_target_may_be_on_the_judges_score(tmp_path: Path, reader: Path) -> None:
    decision, _ = decide(
        tmp_path,
        triage(tmp_path, 60),
        model=reader,
        section={
            "targets": [{"metric": "judge_score", "at_least": 6}],
            "few_shot": {"ks": [2], "selection": ["fixed"]},
        },
        metrics=[],
        judge=RubricSettings.model_validate({"kind": "rubric", "checks": [FORMAT, COLOR]}),
    )
    assert decision["verdict"] == "prompting is enough"
    assert decision["winner"]["figures"]["judge_score"]["value"] > 6
    with pytest.raises(ConfigError, match="there is no judge"):
        decide(
            tmp_path,
            triage(tmp_path, 6),
            model=reader,
            section={"targets": [{"metric": "judge_score", "at_least": 6}]},
            metrics=[],
        )


def test_every_answer_behind_a_figure_is_kept(tmp_path: Path, reader: Path) -> None:
    decision, artifact = decide(
        tmp_path,
        triage(tmp_path, 12),
        model=reader,
        section={"targets": TRIAGE, "few_shot": None},
        metrics=[FORMAT, COLOR],
    )
    rows = [row for _, row in read_jsonl(artifact.file("answers.jsonl"))]
    assert len(rows) == 12
    mean = sum(row["values"]["format"] for row in rows) / 12
    assert decision["candidates"][0]["figures"]["format"]["value"] == pytest.approx(mean)


def test_a_waiver_is_a_decision_with_its_reason(tmp_path: Path) -> None:
    decision, artifact = decide(
        tmp_path, prepared(tmp_path, []), model=tmp_path, section={"waive": "a course on DPO"}, metrics=[]
    )
    assert decision["verdict"] == "waived"
    assert "a course on DPO" in artifact.file("decision.md").read_text(encoding="utf-8")
    demand_fine_tuning(artifact, stage="sft", folder=tmp_path)


def test_a_killed_decision_keeps_its_finished_candidates(
    tmp_path: Path, reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairlead.decide.answerers import LocalAnswerer

    section: dict[str, Any] = {"targets": TRIAGE, "few_shot": {"ks": [1], "selection": ["fixed", "random"]}}
    artifact = triage(tmp_path, 12)
    asked: list[int] = []
    original = LocalAnswerer.answer

    def answer(self: LocalAnswerer, prompts: Any, advance: Any) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return original(self, prompts, advance)

    monkeypatch.setattr(LocalAnswerer, "answer", answer)
    with pytest.raises(KeyboardInterrupt):
        decide(tmp_path, artifact, model=reader, section=section, metrics=[FORMAT, COLOR])
    asked.pop()
    decision, _ = decide(tmp_path, artifact, model=reader, section=section, metrics=[FORMAT, COLOR])
    assert len(decision["candidates"]) == 3
    assert len(asked) == 2, "two were read from the folder, one was asked"


def test_examples_that_find_no_room_are_left_out_and_said(tmp_path: Path, reader: Path) -> None:
    dev = [Prompt.of(f"{'ticket ' * 200}{n}", gold={"severity": "red"}) for n in range(6)]
    sft = [Example(Prompt.of("light is red " * 20), "severity : red")]
    progress = Shown()
    decision, _ = decide(
        tmp_path,
        prepared(tmp_path, dev, sft=sft),
        model=reader,
        section={"targets": TRIAGE, "few_shot": {"ks": [1], "selection": ["fixed"]}},
        metrics=[FORMAT, COLOR],
        progress=progress,
    )
    [skipped] = decision["not_tried"]
    assert "no room for an example" in skipped["why"]
    assert any("no room" in line for line in progress.lines)
