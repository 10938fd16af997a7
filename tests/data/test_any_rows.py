"""Rows of other people's forms: what each becomes, and that what makes no row is counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fairlead.data.reading.any_rows import read_any
from fairlead.data.reading.readers import read_examples
from fairlead.errors import DataError
from fairlead.records import Example, Imported, Message, Preference, Prompt


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def rows(folder: Path, *lines: dict[str, Any]) -> str:
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / "rows.jsonl")


def test_a_comparison_becomes_the_pair_that_most_people_prefer(tmp_path: Path) -> None:
    base = {"prompt": "q", "first": "a", "second": "b", "first_model": "m", "second_model": "n"}
    verdicts: list[Any] = ["first", 2, ["first", "first", "tie"], ["2", "first", "second"]]
    read = read_any(rows(tmp_path, *({**base, "human": verdict} for verdict in verdicts)))
    pairs = [record for record in read.records if isinstance(record, Preference)]
    assert [(p.chosen, p.rejected) for p in pairs] == [("a", "b"), ("b", "a"), ("a", "b"), ("b", "a")]
    assert [p.margin for p in pairs] == [None, None, pytest.approx(2 / 3), pytest.approx(1 / 3)]
    origin = pairs[3].provenance
    assert isinstance(origin, Imported)
    assert (origin.chosen_model, origin.rejected_model, origin.format) == ("n", "m", "comparison")
    assert origin.columns == {"human": ["2", "first", "second"]}


def test_draws_and_missing_verdicts_are_counted(tmp_path: Path) -> None:
    base = {"prompt": "q", "first": "a", "second": "b"}
    verdicts: list[Any] = ["first", "tie", 0, [0, 0, 1], None, "", [], ["first", "second"]]
    read = read_any(rows(tmp_path, *({**base, "human": verdict} for verdict in verdicts)))
    assert len(read.records) == 1
    assert read.dropped_by_reason == {"draw": 3, "no verdict": 3, "no majority among the people": 1}
    with pytest.raises(DataError, match=r"rows.jsonl:1: human is 'left' .* — wanted: first, second or tie"):
        read_any(rows(tmp_path, {**base, "human": "left"}))


def test_an_alpaca_row_asks_its_instruction_and_the_input_below_it(tmp_path: Path) -> None:
    read = read_any(
        rows(
            tmp_path,
            {"instruction": "Sum up.", "input": "A long text.", "output": "Short."},
            {"instruction": "Say hi.", "input": "", "output": "Hi."},
            {"instruction": "Say nothing.", "input": "", "output": " "},
            {"instruction": "And?", "output": "No.", "system": "Be brief.", "history": [["One?", "Yes."]]},
        )
    )
    earlier = (Message("system", "Be brief."), Message("user", "One?"), Message("assistant", "Yes."))
    assert (read.kind, read.places) == ("sft", ["1", "2", "4"])
    assert read.records == [
        Example(Prompt.of("Sum up.\n\nA long text."), "Short."),
        Example(Prompt.of("Say hi."), "Hi."),
        Example(Prompt((*earlier, Message("user", "And?"))), "No."),
    ]
    assert read.dropped_by_reason == {"empty answer": 1}


def test_a_conversation_makes_an_example_of_every_answer_that_is_trained_on(tmp_path: Path) -> None:
    turns = [user("a"), assistant("b", weight=0), user("c"), assistant("d", weight=1), user("e"), assistant("f")]
    read = read_any(rows(tmp_path, {"messages": turns}))
    examples = [record for record in read.records if isinstance(record, Example)]
    assert [(len(e.prompt.messages), e.answer) for e in examples] == [(3, "d"), (5, "f")]
    assert (read.places, read.dropped_by_reason) == (["1.2", "1.3"], {"weight 0: not to be trained on": 1})
    assert not read.ignored_fields
    assert len({e.prompt.cluster for e in examples}) == 1
    assert examples[0].prompt.cluster, "no split may part them"


def test_what_follows_a_tool_call_without_text_is_left_out_and_counted(tmp_path: Path) -> None:
    call = assistant(None, tool_calls=[{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}])
    tool = {"role": "tool", "tool_call_id": "1", "content": "12"}
    read = read_any(rows(tmp_path, {"messages": [user("a"), assistant("b"), user("c"), call, tool, assistant("d")]}))
    assert [record.answer for record in read.records if isinstance(record, Example)] == ["b"]
    assert read.dropped_by_reason == {"a turn holds tool calls and no text": 1}
    assert read.ignored_fields["tool_calls"] == 1


def test_an_answer_of_weight_0_is_never_trained_on_unseen(tmp_path: Path) -> None:
    file = rows(tmp_path, {"messages": [user("a"), assistant("b", weight=0)]})
    with pytest.raises(DataError, match=r"rows.jsonl:1: the answer in 'messages' has weight 0.*fairlead data import"):
        read_examples(Path(file))
    with pytest.raises(DataError, match="field 'weight' must be 0 or 1, not 2"):
        read_any(rows(tmp_path, {"messages": [user("a"), assistant("b", weight=2)]}))


def test_prompts_alone_are_prompts(tmp_path: Path) -> None:
    read = read_any(rows(tmp_path, {"prompt": "a"}, {"prompt": " "}, {"prompt": "b", "gold": {"n": 1}}))
    assert (read.kind, read.records) == ("prompts", [Prompt.of("a"), Prompt.of("b", gold={"n": 1})])
    assert read.dropped_by_reason == {"empty prompt": 1}


def test_a_named_form_is_used_and_an_unknown_one_lists_the_known(tmp_path: Path) -> None:
    file = rows(tmp_path, {"prompt": "a", "answer": "b"})
    assert read_any(file, format="prompts").records == [Prompt.of("a")]
    with pytest.raises(DataError, match="did you mean pandalm"):
        read_any(file, format="pandlm")


@pytest.mark.parametrize("row", [
    {"instruction": "q", "input": "i", "response1": "a", "response2": "b", "annotators": [1, 1, 2]},
    {"input": "q", "output_1": "a", "output_2": "b", "label": 1},
    {"question": "q", "passages": [], "answers": ["a", "b"], "preference": [1]},
    {"prompt": "q", "first": "a", "second": "b", "human": "first"},
])  # fmt: skip
def test_a_row_without_one_of_its_columns_is_one_line(tmp_path: Path, row: dict[str, Any]) -> None:
    for name in row.keys() - {"input", "passages", "annotators", "label", "human"}:
        lacking = {key: value for key, value in row.items() if key != name}
        with pytest.raises(DataError, match=f":2: .*{name}") as raised:
            read_any(rows(tmp_path, row, lacking))
        assert "\n" not in str(raised.value)


def test_pandalm_imports_with_what_its_people_say(shared_data: Path) -> None:
    read = read_any(str(shared_data / "pandalm_human.jsonl"))
    assert read.format == "pandalm"
    lines = [json.loads(line) for line in (shared_data / "pandalm_human.jsonl").read_text().splitlines()]
    most = [Counter(line["annotators"]).most_common(2) for line in lines]
    clear = [ranked[0][0] for ranked in most if len(ranked) == 1 or ranked[0][1] > ranked[1][1]]
    empty_or_same = read.dropped_by_reason.keys() - {"draw", "no majority among the people"}
    assert len(read.records) + sum(map(read.dropped_by_reason.__getitem__, empty_or_same)) == sum(map(bool, clear))
    assert read.dropped_by_reason["draw"] == clear.count(0)
    assert len(read.records) + len(read.dropped) == 999


def test_llmbar_and_qa_feedback_import_whole(shared_data: Path) -> None:
    llmbar = read_any(str(shared_data / "llmbar_gpt4.jsonl"))
    assert (llmbar.format, len(llmbar.records), len(llmbar.dropped)) == ("llmbar", 419, 0)
    answers = read_any(str(shared_data / "qa_feedback.jsonl"))
    lines = [json.loads(line) for line in (shared_data / "qa_feedback.jsonl").read_text().splitlines()]
    assert (answers.format, len(answers.records) + len(answers.dropped)) == ("qa_feedback", 6 * 400)
    assert answers.dropped_by_reason["draw"] == sum(line["preference"].count(0) for line in lines)
    pair = next(record for record in answers.records if isinstance(record, Preference))
    assert answers.places[0] == "1.2", "of the first row's verdicts the first is a draw"
    assert (pair.chosen, pair.rejected) == (lines[0]["answers"][0], lines[0]["answers"][2])
    assert pair.prompt.text.startswith(lines[0]["question"])
    assert pair.prompt.gold == {"answer": lines[0]["gold"]}
