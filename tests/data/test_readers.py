from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.data.reading.any_rows import prompts_of
from fairlead.data.reading.readers import (
    Dropped,
    load_prompts,
    read_examples,
    read_preferences,
    read_prompts,
)
from fairlead.errors import DataError
from fairlead.records import DropReason, Example, Imported, Message, Preference, Prompt, to_json
from tests.support.pairs import SAMPLED

PAIR = {"prompt": "hi", "chosen": "hello", "rejected": "go"}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_prompts_are_strings_messages_or_conversations(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "b"}
    file = lines(
        tmp_path / "p.jsonl",
        {"prompt": "a", "gold": {"x": 1}, "cluster": "c"},
        {"prompt": [turn]},
        {"messages": [turn]},
    )
    assert read_prompts(file) == [Prompt.of("a", gold={"x": 1}, cluster="c"), Prompt.of("b"), Prompt.of("b")]


def test_examples_are_prompt_and_answer_or_a_conversation(tmp_path: Path) -> None:
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    rows = [
        {"prompt": "a", "answer": "b"},
        {"prompt": [user], "completion": [assistant]},
        {"messages": [user, assistant]},
        to_json(Example(Prompt.of("a"), "b")),
    ]
    assert read_examples(lines(tmp_path / "e.jsonl", *rows)) == [Example(Prompt.of("a"), "b")] * 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a"}, "no field 'prompt'"),
        ({"prompt": 3}, "'prompt' must be a list of messages"),
        ({"prompt": " "}, "empty prompt"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "ends in the assistant's turn"),
        ({"prompt": "a", "gold": {"x": float("nan")}}, "cannot be written as JSON"),
        ({"prompt": "a \ud800"}, "cannot be written as JSON"),
        ("a", "not an object"),
    ],
)
def test_a_bad_prompt_row_is_named_with_its_line(tmp_path: Path, row: Any, message: str) -> None:
    file = lines(tmp_path / "p.jsonl", {"prompt": "fine"}, row)
    with pytest.raises(DataError, match=message) as caught:
        read_prompts(file)
    assert str(caught.value).startswith(f"{file}:2: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a"}, "no field 'answer'"),
        ({"prompt": "a", "answer": ""}, "answer in 'answer' is empty"),
        ({"prompt": "a", "answer": 1}, "'answer' must be a list of messages"),
        ({"messages": [{"role": "user", "content": "a"}]}, "must hold a prompt and an answer"),
        ({"messages": [{"role": "user", "content": "a"}] * 2}, "'messages' must end in one assistant message"),
    ],
)
def test_a_bad_example_row_is_named_with_its_line(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"e.jsonl:1: .*{message}"):
        read_examples(lines(tmp_path / "e.jsonl", row))


def test_json_jsonl_and_parquet_give_the_same_pairs(tmp_path: Path) -> None:
    rows = [PAIR, {**PAIR, "prompt": "bye"}]
    lines(tmp_path / "a.jsonl", *rows)
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    read = [read_preferences(f"a.{kind}", tmp_path) for kind in ("jsonl", "json", "parquet")]
    assert [[pair.id for pair in imported.preferences] for imported in read] == [
        [p.id for p in read[0].preferences]
    ] * 3
    assert {imported.format for imported in read} == {"standard"}


def test_provenance_names_source_row_format_and_keeps_the_other_columns(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", {**PAIR, "id": 7, "source": "web", "tags": ["x"], "note": None})
    (pair,) = read_preferences("a.jsonl", tmp_path).preferences
    extra = {"id": 7, "source": "web", "tags": ["x"]}
    assert pair.provenance == Imported("a.jsonl", 1, "standard", extra)


def test_fairlead_rows_keep_their_provenance(tmp_path: Path) -> None:
    pair = Preference(Prompt((Message("user", "hi"),)), "x", "y", 1.0, SAMPLED)
    lines(tmp_path / "a.jsonl", to_json(pair))
    assert read_preferences("a.jsonl", tmp_path).preferences == [pair]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chosen": " "}, "empty chosen"),
        ({"rejected": ""}, "empty rejected"),
        ({"rejected": "hello "}, "identical chosen and rejected"),
        ({"prompt": ""}, "empty prompt"),
        ({"score_chosen": 3, "score_rejected": 3}, "equal scores"),
        ({"score_chosen": 3, "score_rejected": 4}, "rejected has the higher score"),
    ],
)
def test_a_row_without_preference_is_dropped_and_listed(tmp_path: Path, change: Any, reason: str) -> None:
    lines(tmp_path / "a.jsonl", PAIR, {**PAIR, **change})
    imported = read_preferences("a.jsonl", tmp_path)
    assert len(imported.preferences) == 1
    assert imported.dropped == [Dropped(f"{tmp_path / 'a.jsonl'}:2", DropReason(reason), "2")]


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", {**PAIR, "rejected": "hello"})
    with pytest.raises(DataError, match=r"no usable pair in 1 rows .*identical chosen and rejected"):
        read_preferences("a.jsonl", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "a.jsonl: has no rows"),
        ("a.jsonl", b"\n\n", "a.jsonl: has no rows"),
        ("a.json", b"[]", "a.json: has no rows"),
        ("a.jsonl", b'{"prompt": "a", "ch', "a.jsonl:1: not JSON"),
        ("a.json", b'[\n{"prompt": ', "a.json:2: not JSON"),
        ("a.jsonl", b'{}\n{"prompt": "\xff"}', "a.jsonl:2: not UTF-8"),
        ("a.parquet", b"nonsense", "a.parquet: not a Parquet file"),
        ("a.txt", b"prompt,chosen", "a.txt: unknown kind of file"),
        ("a.json", b"[1]", "a.json: row 1: not an object but a number"),
        ("a.jsonl", b'{"prompt": "a", "chosen": "b"}', "a.jsonl:1: columns prompt, chosen are no known form"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_preferences(name, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no.jsonl", "no.parquet", "./no", "some/long/path"])
def test_a_path_that_is_not_there_is_never_asked_of_the_hub(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_preferences(name, tmp_path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    with pytest.raises(DataError, match="is a folder, and no data set can be read from it") as caught:
        read_preferences("rows", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_saved_data_set_is_read_by_its_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([PAIR])
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "two")
    assert [p.chosen for p in read_preferences("one", tmp_path).preferences] == ["hello"]
    assert [p.chosen for p in read_preferences("two", tmp_path, split="test").preferences] == ["hello"]
    with pytest.raises(DataError, match="no split 'dev' — one of train, test"):
        read_preferences("two", tmp_path, split="dev")


def test_a_hub_that_gives_nothing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="nobody/nothing: no file of this name, and the hub gives no data set"
    ) as caught:
        read_preferences("nobody/nothing", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_data_set_of_the_hub_is_read_like_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: datasets.Dataset.from_list([PAIR | {"n": split}]))
    (pair,) = read_preferences("owner/name", tmp_path, split="test").preferences
    assert pair.provenance == Imported("owner/name", 1, "standard", {"n": "test"})


def test_a_format_named_wrongly_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown format 'csv' — known: "):
        read_preferences("a.jsonl", tmp_path, format="csv")


def test_a_named_format_is_used_instead_of_the_detected_one(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", PAIR)
    with pytest.raises(DataError, match=r"a.jsonl:1: no field 'conversations' \(format sharegpt\)"):
        read_preferences("a.jsonl", tmp_path, format="sharegpt")


def test_the_published_sharegpt_file_gives_its_300_pairs(shared_data: Path) -> None:
    imported = read_preferences("dpo_en_demo.json", shared_data)
    assert (len(imported.preferences), imported.dropped, imported.format) == (300, [], "sharegpt")
    assert sum(len(pair.prompt.messages) == 1 for pair in imported.preferences) == 114


@pytest.mark.parametrize(
    ("model", "outcomes", "pairs"),
    [
        ("claude-2.1", {"win": 115, "loss": 688, "draw": 2}, 802),
        ("vicuna-7b-v1.5", {"win": 35, "loss": 767, "draw": 3}, 800),
    ],
)
def test_the_published_outcomes_of_alpaca_eval_are_counted(
    shared_data: Path, model: str, outcomes: dict[str, int], pairs: int
) -> None:
    imported = read_preferences(f"alpaca_eval_{model}.jsonl", shared_data)
    assert imported.outcomes == outcomes
    # beside the draws, the answers that have equal lengths are equal in these files, because their text is only x's
    assert len(imported.preferences) == pairs


def test_a_null_in_the_first_row_does_not_decide_the_form_of_the_others(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", {**PAIR, "prompt": None}, PAIR, PAIR)
    with pytest.raises(DataError, match=r"a\.jsonl:1: null field 'prompt' \(format standard\)"):
        read_preferences("a.jsonl", tmp_path)
    lines(tmp_path / "b.jsonl", {**PAIR, "note": None}, {**PAIR, "note": "x"})
    assert [pair.prompt.text for pair in read_preferences("b.jsonl", tmp_path).preferences] == ["hi", "hi"]


def test_prompts_are_never_replaced_by_what_the_answers_have_in_common(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", {"chosen": "a b", "rejected": "a c"}, {**PAIR, "chosen": "a b", "rejected": "a c"})
    with pytest.raises(DataError, match=r"a\.jsonl:2: has a prompt, and the form implicit takes it from"):
        read_preferences("a.jsonl", tmp_path, format="implicit")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_key_that_stands_twice_is_refused_with_its_row(tmp_path: Path, name: str) -> None:
    rows = '{"prompt": "x", "chosen": "a", "rejected": "b"}', '{"prompt": "x", "prompt": "y"}'
    (tmp_path / name).write_text("\n".join(rows) if name == "a.jsonl" else f"[{', '.join(rows)}]")
    place = "a.jsonl:2" if name == "a.jsonl" else "a.json: row 2"
    with pytest.raises(DataError, match=f"{place}: the key 'prompt' stands twice in one object"):
        read_preferences(name, tmp_path)


def test_fields_of_messages_that_are_not_read_are_counted(tmp_path: Path) -> None:
    user = {"role": "user", "content": "hi", "name": "ann"}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calling = {"role": "assistant", "content": "I look.", "tool_calls": [call], "weight": 1}
    tool_message = {"role": "tool", "content": "42", "tool_call_id": "c"}
    prompts = load_prompts(
        lines(tmp_path / "p.jsonl", {"messages": [user, calling, tool_message]}, {"messages": [user]})
    )
    assert prompts.ignored_fields == {"name": 2, "tool_call_id": 1, "tool_calls": 1, "weight": 1}
    answers = {"chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}
    lines(tmp_path / "pairs.jsonl", {"prompt": [user], **answers})
    assert read_preferences("pairs.jsonl", tmp_path).ignored_fields == {"name": 1}


def test_a_turn_of_tool_calls_alone_is_no_empty_turn(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    user, answer = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "x"}
    pair = {"prompt": [user], "chosen": [answer], "rejected": [{"role": "assistant", "content": "y"}]}
    lines(tmp_path / "a.jsonl", pair, {**pair, "chosen": [call]}, {**pair, "chosen": [{**call, "content": ""}]})
    imported = read_preferences("a.jsonl", tmp_path)
    assert len(imported.preferences) == 1
    assert imported.dropped_by_reason == {DropReason.ONLY_TOOL_CALLS: 2}
    with pytest.raises(DataError, match=r"e\.jsonl:1: a turn holds tool calls and no text"):
        read_examples(lines(tmp_path / "e.jsonl", {"messages": [user, call]}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": ["a"]}, r"'messages\[0\]' must be an object with role and content"),
        ({**PAIR, "margin": 10**400}, "'margin' must be a finite number"),
        ({"prompt": "x" * 100_000, "chosen": "a", "rejected": 3}, "'rejected' must be a string"),
        ({"prompt": [{"role": "r" * 100_000, "content": "a"}]}, r"'prompt\[0\].role' must be one of"),
        ({"k" * 100_000: 1}, "columns|no field"),
    ],
)
def test_odd_rows_are_a_short_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    file = lines(tmp_path / "a.jsonl", row)
    with pytest.raises(DataError, match=message) as caught:
        prompts_of(file)
    assert len(str(caught.value)) < 600


def test_text_of_a_table_that_is_not_utf8_is_a_line(tmp_path: Path) -> None:
    broken = pa.array([b"hi \xff", b"x"], pa.binary()).view(pa.string())
    text = pa.array(["a", "b"])
    pq.write_table(pa.table({"prompt": broken, "chosen": text, "rejected": text}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: .*(utf-8|UTF8)"):
        read_preferences("a.parquet", tmp_path)


def test_nesting_that_no_function_can_follow_is_a_line(tmp_path: Path) -> None:
    for depth in (150, 100_000):
        (tmp_path / "a.jsonl").write_text(json.dumps(PAIR) + "\n" + f'{{"x": {"[" * depth}{"]" * depth}}}\n')
        with pytest.raises(DataError, match=r"a\.jsonl:2: nested too deeply"):
            read_preferences("a.jsonl", tmp_path)
