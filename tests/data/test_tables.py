"""CSV and TSV give the rows that JSON gives, or one line that says what is wrong, where, and what would be right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.data.reading.any_rows import read_any
from fairlead.data.reading.rows import read_rows
from fairlead.errors import DataError
from fairlead.judges.qualification.human_labels import read_labelled
from fairlead.records import Example, Message, Preference, Prompt, VerdictState


def table(folder: Path, content: str | bytes, name: str = "a.csv") -> str:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def test_quoted_cells_hold_lines_quotes_and_delimiters(tmp_path: Path) -> None:
    file = table(tmp_path, '\ufeffprompt,answer\r\n"one,\ntwo","he said ""no"""\r\n\r\nthree\u2028four,five\r\n')
    rows = read_rows(Path(file))
    assert [row.fields for row in rows] == [
        {"prompt": "one,\ntwo", "answer": 'he said "no"'},
        {"prompt": "three\u2028four", "answer": "five"},
    ]
    assert [row.where for row in rows] == [f"{file}: row 1 (line 2)", f"{file}: row 2 (line 5)"]


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t")])
def test_the_delimiter_is_that_of_the_header(tmp_path: Path, name: str, delimiter: str) -> None:
    lines = [["prompt", "answer"], ["what", '"a, b; c"']]
    read = read_any(table(tmp_path, "\n".join(map(delimiter.join, lines)), name))
    assert read.records == [Example(Prompt.of("what"), "a, b; c")]


def test_numbers_and_structures_are_read_and_texts_stay_texts(tmp_path: Path) -> None:
    file = table(tmp_path, 'prompt,chosen,rejected,margin,gold\nq,"{""a"": 1}",[2],1.5,"{""n"": 1}"\nq,3,4,,\n')
    pairs = [record for record in read_any(file).records if isinstance(record, Preference)]
    assert [(pair.prompt.gold, pair.chosen, pair.rejected, pair.margin) for pair in pairs] == [
        ({"n": 1}, '{"a": 1}', "[2]", 1.5),
        ({}, "3", "4", None),
    ]
    turns = json.dumps([{"role": "user", "content": "q"}]).replace('"', '""')
    assert read_any(table(tmp_path, f'prompt\n"{turns}"\n')).records == [Prompt((Message("user", "q"),))]


def test_the_row_numbers_of_a_data_frame_are_no_column(tmp_path: Path) -> None:
    assert read_any(table(tmp_path, ",prompt,\n0,a,\n1,b,\n")).records == [Prompt.of("a"), Prompt.of("b")]


def test_verdicts_in_a_table(tmp_path: Path) -> None:
    file = table(tmp_path, "prompt,first,second,human\nq,a,b,first\nq,a,c,\nq,a,d,1.0\n")
    read = read_any(file)
    assert (len(read.records), read.dropped_by_reason) == (2, {"no verdict": 1})
    people = [row.people for row in read_labelled(Path(table(tmp_path, "prompt,first,second,human\nq,a,b,2\n")))]
    assert people == [(VerdictState.LOSS,)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt,answer\na,b\nc,d,e\n", r"a\.csv: row 2 \(line 3\): has 3 cells, and the header 2 columns"),
        ('prompt,answer\n"a,b\nc,d\n', r"a\.csv:2: not a table: a quotation is not closed — put texts"),
        ('prompt,answer\n"a"b,c\n', r"a\.csv:2: not a table: ',' expected after '\"'"),
        ("prompt,prompt\na,b\n", r"a\.csv:1: two columns have the name 'prompt' — rename"),
        ("prompt,answer,\na,b,c\n", r"row 1 \(line 2\): column 3 has no name — name it"),
        ("prompt,answer\n", r"a\.csv: has no rows — a header"),
        ("", r"a\.csv: has no rows — a header"),
        ("prompt,answer\na,Größe\n".encode("latin-1"), r"a\.csv:2: not UTF-8 .* iconv -f LATIN1 "),
        ("prompt,answer\na,“b”\n".encode("cp1252"), r"a\.csv:2: not UTF-8 .* iconv -f WINDOWS-1252 "),
        ("prompt,answer\na,b\n".encode("utf-16"), r"a\.csv:1: not UTF-8 .* iconv -f UTF-16 "),
        ("a,b\n1,2\n", r"row 1 \(line 2\): no field 'prompt' — the row has a, b"),
        ("prompt,chosen,rejected,margin\nq,a,b,\"1,5\"\n", r"'margin' must be a finite number, not '1,5'"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_any(table(tmp_path, content))
    assert "\n" not in str(caught.value)
