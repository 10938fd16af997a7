"""What the `prepare` stage keeps, leaves out and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.config.data import DataSection
from fairlead.data.prepare import left_out_lines, prepare_files
from fairlead.documents.prepare import PrepareCounts, PreparedRows
from fairlead.errors import DataError
from fairlead.files import read_jsonl, write_jsonl
from fairlead.records import DropReason


def prepared(folder: Path, eval_rows: list[dict[str, Any]], **data: Any) -> PrepareCounts:
    write_jsonl(folder / "eval.jsonl", eval_rows)
    counts = prepare_files(DataSection(eval="eval.jsonl", **data), folder, folder / "out", dev_prompts=0, seed=0)
    for name, rows in counts.by_kind().items():
        assert rows.kept == len(list(read_jsonl(folder / "out" / f"{name}.jsonl")))
    counts.write(folder / "counts.json")
    assert PrepareCounts.read(folder / "counts.json") == counts
    return counts


def test_repeated_eval_rows_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n % 3}", "gold": {"n": n % 3}} for n in range(5)]
    assert prepared(tmp_path, rows).eval == PreparedRows(kept=3, duplicates=2)


def test_an_eval_prompt_with_two_golds_is_refused_by_its_rows(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "gold": {"n": 1}}, {"prompt": "b"}, {"prompt": "a", "gold": {"n": 2}}]
    message = r"eval\.jsonl: prompts 1 and 3 ask the same \('a'\) with different gold: \{'n': 1\} and \{'n': 2\}"
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, rows)


def test_kept_duplicates_and_leaks_add_up_to_the_rows_of_the_file(tmp_path: Path) -> None:
    examples = [{"prompt": text, "answer": "a"} for text in ("one", "two", "one", "held out")]
    pairs = [{"prompt": "one", "chosen": "a", "rejected": text} for text in ("b", "b", "a")]
    write_jsonl(tmp_path / "sft.jsonl", examples)
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    counts = prepared(tmp_path, [{"prompt": "held out"}], sft="sft.jsonl", preferences="pairs.jsonl")
    assert counts.sft == PreparedRows(kept=2, duplicates=1, leaks_dropped=1)
    assert counts.preferences == PreparedRows(kept=1, duplicates=1)
    assert counts.dropped_import == {DropReason.IDENTICAL: 1}


def test_every_file_has_a_line_that_says_what_was_left_out_of_it(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "sft.jsonl", [{"prompt": "one", "answer": "a"}] * 2)
    turn = {"role": "user", "content": "two", "name": "ann"}
    same = {"prompt": [turn], "chosen": [{"role": "assistant", "content": "a"}], "rejected": "a"}
    same["rejected"] = same["chosen"]
    write_jsonl(tmp_path / "pairs.jsonl", [same, {**same, "rejected": [{"role": "assistant", "content": "b"}]}])
    counts = prepared(tmp_path, [{"prompt": "held out"}], sft="sft.jsonl", preferences="pairs.jsonl")
    assert left_out_lines(counts) == [
        "sft: 1 rows left out (duplicates: 1)",
        "preferences: 1 rows left out (identical chosen and rejected: 1); fields of messages not read (name in 2 rows)",
    ]
    assert counts.ignored_fields == {"preferences": {"name": 2}}
