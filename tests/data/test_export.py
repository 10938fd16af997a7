"""What is written for others comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fairlead.data.export import FORMS, export
from fairlead.data.reading.readers import read_preferences
from fairlead.errors import DataError
from fairlead.records import Imported, Message, Preference, Prompt
from tests.support.pairs import SAMPLED

PAIRS = [
    Preference(
        Prompt(
            (
                Message("system", "Be brief."),
                Message("user", "hi"),
                Message("assistant", "yes?"),
                Message("user", "ünï ☃"),
            ),
            {"severity": "high", "n": [1, 2]},
            "cluster a",
        ),
        "chosen\nwith lines",
        " rejected ",
        0.5,
        SAMPLED,
    ),
    Preference(Prompt.of("plain"), "a", "b"),
]
NAMES = {"trl": "pairs.jsonl", "openai": "pairs.jsonl", "parquet": "pairs.parquet"}


@pytest.mark.parametrize("form", FORMS)
def test_a_round_trip_loses_nothing(tmp_path: Path, form: str) -> None:
    assert export(PAIRS, form, tmp_path / NAMES[form]) == 2
    assert read_preferences(NAMES[form], tmp_path).preferences == PAIRS


@pytest.mark.parametrize("form", FORMS)
def test_a_published_file_round_trips(tmp_path: Path, shared_data: Path, form: str) -> None:
    pairs = read_preferences(str(shared_data / "dpo_en_demo.json"), tmp_path).preferences
    export(pairs, form, tmp_path / NAMES[form])
    assert len(pairs) == 300
    assert read_preferences(NAMES[form], tmp_path).preferences == pairs


def test_columns_of_any_depth_and_the_tools_of_requests_come_back(tmp_path: Path) -> None:
    row = {
        "input": {
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "parallel_tool_calls": False,
        },
        "preferred_output": [{"role": "assistant", "content": "a"}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
        "metadata": {"source": {"page": 3}},
        "tags": ["x", "y"],
    }
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    pairs = read_preferences("in.jsonl", tmp_path).preferences
    assert isinstance(pairs[0].provenance, Imported)
    assert pairs[0].provenance.columns == {"metadata": row["metadata"], "tags": row["tags"]}
    for form, name in NAMES.items():
        export(pairs, form, tmp_path / name)
        assert read_preferences(name, tmp_path).preferences == pairs
    export(pairs, "openai", tmp_path / "plain.jsonl", plain=True)
    published = {key: row[key] for key in ("input", "preferred_output", "non_preferred_output")}
    assert json.loads((tmp_path / "plain.jsonl").read_text()) == published


def test_plain_writes_only_the_published_columns(tmp_path: Path) -> None:
    export(PAIRS, "openai", tmp_path / "a.jsonl", plain=True)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [{"input", "preferred_output", "non_preferred_output"}] * 2
    export(PAIRS, "parquet", tmp_path / "a.parquet", plain=True)
    assert pq.read_schema(tmp_path / "a.parquet").names == ["prompt", "chosen", "rejected"]


def test_trl_reads_the_export(tmp_path: Path) -> None:
    from datasets import load_dataset
    from trl.data_utils import is_conversational

    export(PAIRS, "trl", tmp_path / "a.jsonl")
    data = load_dataset("json", data_files=str(tmp_path / "a.jsonl"), split="train", cache_dir=str(tmp_path / "cache"))
    assert is_conversational(data[0])
    assert data[0]["chosen"] == [{"role": "assistant", "content": "chosen\nwith lines"}]


def test_an_unknown_form_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="known: trl, openai, parquet"):
        export(PAIRS, "csv", tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []
