"""Whatever a data file holds, it is read or refused in one line, and no row is lost uncounted."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from fairlead.data.reading.any_rows import prompts_of, read_any
from fairlead.data.reading.readers import read_examples, read_preferences, read_prompts
from fairlead.data.reading.rows import read_rows
from fairlead.errors import DataError
from fairlead.evaluation.external.annotations import read_annotations
from fairlead.evaluation.external.answers import read_answers
from fairlead.judges.qualification.human_labels import read_labelled
from fairlead.training.dpo_trainer.label_error import read_checks
from tests.support.fuzz import bounded

USER = {"role": "user", "content": "q"}
ANSWER, OTHER = ({"role": "assistant", "content": text} for text in "ab")
SPOKEN = {"from": "gpt", "value": "a"}
ROWS: list[dict[str, Any]] = [
    {"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1.5, "gold": {"n": 1}, "cluster": "c"},
    {"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER], "provenance": {"kind": "imported", "row": 3}},
    {"chosen": [USER, ANSWER], "rejected": [USER, OTHER], "score_chosen": 2, "score_rejected": 1},
    {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]},
    {"conversations": [{"from": "human", "value": "q"}], "chosen": SPOKEN, "rejected": {**SPOKEN, "value": "b"}},
    {"instruction": "q", "generations": ["a", "b"], "ratings": [1, 2], "generation_models": ["m", "n"]},
    {"fields": {"prompt": "q", "response1": "a", "response2": "b"}, "responses": {"best": [{"value": "response1"}]}},
    {"instruction": "q", "output_1": "a", "output_2": "b", "preference": 1.7, "annotator": "judge", "generator_1": "m"},
    {"prompt": "q", "first": "a", "second": "b", "human": "first", "verdict": "win"},
    {"prompt": "q", "answer": "a", "model": "m"},
    {"messages": [USER, ANSWER], "correct": True, "margin": 2},
    {"messages": [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}]},
    {"instruction": "q", "input": "i", "output": "a", "system": "s", "history": [["q", "a"]]},
    {"instruction": "q", "input": "i", "response1": "a", "response2": "b", "annotators": [1, 1, 2]},
    {"input": "q", "output_1": "a", "output_2": "b", "label": 2},
    {"question": "q", "passages": [["t", "p"]], "answers": ["a", "b", "c"], "preference": [1, 2, 0], "gold": "g"},
    {"conversations": [{"from": "human", "value": "q"}, SPOKEN], "system": "s"},
]  # fmt: skip
READERS: tuple[Callable[[Path], object], ...] = (
    read_prompts,
    read_examples,
    prompts_of,
    read_labelled,
    read_checks,
    lambda path: read_annotations(path, "alpaca_eval"),
    lambda path: read_annotations(path, "jsonl"),
    lambda path: read_answers(path, "jsonl"),
)

INSERTED = [b"\xff", b"\x00", b'"', b"[", b"{", b"\n", b",", b"1e999", b"a,b\n"]

scalars = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=8)
odd = st.recursive(
    scalars | st.sampled_from(["\ud800", "\x1b[2J", "{", '{"a": ', "\n\nHuman: q\n\nAssistant: a", "r" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "k"]), inner),
    max_leaves=6,
)


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of one form, some of them with a field that is missing, null or something odd."""
    base = draw(st.sampled_from(ROWS))
    made = []
    for _ in range(draw(st.integers(1, 5))):
        row = dict(base)
        for name in draw(st.lists(st.sampled_from(sorted(base)), max_size=2)):
            if draw(st.booleans()):
                row[name] = draw(odd)
            else:
                row.pop(name, None)
        made.append(row)
    return made


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes with a few of them flipped, doubled, cut out or replaced by others."""
    data = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        end = start + draw(st.integers(0, 20))
        kind = draw(st.sampled_from(["flip", "cut", "double", "end", "insert"]))
        if kind == "flip" and data:
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[start:end]
        elif kind == "double":
            data[start:start] = data[start:end]
        elif kind == "end":
            del data[start:]
        else:
            data[start:start] = draw(
                st.sampled_from([b"\xff", b"\x00", b'"', b"[", b"{", b"\n", b",", b"1e999", b"a,b\n"])
            )
    return bytes(data)


def refused_or_whole(path: Path) -> None:
    """Reads a file with every reader; what is refused is one short line, and what is read is all of it."""
    try:
        records = read_any(str(path), allow_none=True)
    except DataError as error:
        assert_short(error)
    else:
        places = [*records.places, *(row.place for row in records.dropped)]
        assert {place.split(".")[0] for place in places} == {str(row.number) for row in read_rows(path)}
        assert len(records.places) == len(records.records) == len({*records.places})
    for reader in READERS:
        try:
            reader(path)
        except DataError as error:
            assert_short(error)
    try:
        read = read_preferences(str(path), Path())
    except DataError as error:
        assert_short(error)
        return
    assert len({place.split(".")[0] for place in (*read.places, *(row.place for row in read.dropped))}) == len(
        read_rows(path)
    )
    assert len(read.places) == len(read.preferences) == len({*read.places})
    assert sum(read.dropped_by_reason.values()) == len(read.dropped)


def assert_short(error: DataError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


@bounded(60)
@given(st.data())
def test_json_of_any_kind_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    made = data.draw(rows())
    as_lines = data.draw(st.booleans())
    text = (
        "\n".join(map(json.dumps, made)) if as_lines else json.dumps(made, indent=data.draw(st.sampled_from([None, 1])))
    )
    path = tmp_path / f"a.{data.draw(st.sampled_from(['json', 'jsonl', 'ndjson', 'csv', 'txt']))}"
    path.write_bytes(data.draw(damaged(text.encode("utf-8", "surrogatepass"))))
    refused_or_whole(path)


@bounded(40)
@given(st.data())
def test_parquet_of_any_kind_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    base = data.draw(st.sampled_from(ROWS))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([base] * data.draw(st.integers(0, 3))), buffer)
    (tmp_path / "a.parquet").write_bytes(data.draw(damaged(buffer.getvalue())))
    refused_or_whole(tmp_path / "a.parquet")


@bounded(60)
@given(st.data())
def test_tables_of_any_kind_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    made = data.draw(rows())
    columns = sorted({name for row in made for name in row})
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=data.draw(st.sampled_from(",;\t")))
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name, "")) for name in columns] for row in made)
    path = tmp_path / f"a.{data.draw(st.sampled_from(['csv', 'tsv']))}"
    path.write_bytes(data.draw(damaged(buffer.getvalue().encode("utf-8", "surrogatepass"))))
    refused_or_whole(path)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@bounded(40)
@given(rows())
def test_rows_that_are_left_out_are_counted(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    refused_or_whole(tmp_path / "a.jsonl")
