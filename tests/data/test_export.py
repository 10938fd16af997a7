"""What is written for others comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
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
NAMES = {"trl": "pairs.jsonl", "openai": "pairs.jsonl", "parquet": "pairs.parquet", "fairlead": "pairs.jsonl"}

# The example of a row in OpenAI's guide on direct preference optimization, as a schema: these fields and no others.
TURN = {
    "type": "object",
    "properties": {"role": {"enum": ["system", "user", "assistant", "tool"]}, "content": {"type": "string"}},
    "required": ["role", "content"],
    "additionalProperties": False,
}
ANSWER = {
    "type": "array",
    "items": {**TURN, "properties": {"role": {"const": "assistant"}, "content": {"type": "string"}}},
    "minItems": 1,
    "maxItems": 1,
}
OPENAI_ROW = {
    "type": "object",
    "properties": {
        "input": {
            "type": "object",
            "properties": {
                "messages": {"type": "array", "items": TURN, "minItems": 1},
                "tools": {"type": "array"},
                "parallel_tool_calls": {"type": "boolean"},
            },
            "required": ["messages"],
            "additionalProperties": False,
        },
        "preferred_output": ANSWER,
        "non_preferred_output": ANSWER,
    },
    "required": ["input", "preferred_output", "non_preferred_output"],
    "additionalProperties": False,
}


def texts(pairs: Sequence[Preference]) -> list[tuple[object, str, str]]:
    return [(pair.prompt.messages, pair.chosen, pair.rejected) for pair in pairs]


@pytest.mark.parametrize("form", FORMS)
def test_a_round_trip_keeps_every_text(tmp_path: Path, form: str) -> None:
    assert export(PAIRS, form, tmp_path / NAMES[form]) == 2
    assert texts(read_preferences(NAMES[form], tmp_path).preferences) == texts(PAIRS)


def test_fairleads_own_form_loses_nothing(tmp_path: Path) -> None:
    export(PAIRS, "fairlead", tmp_path / "a.jsonl")
    assert read_preferences("a.jsonl", tmp_path).preferences == PAIRS


@pytest.mark.parametrize("form", FORMS)
def test_a_published_file_round_trips(tmp_path: Path, shared_data: Path, form: str) -> None:
    pairs = read_preferences(str(shared_data / "dpo_en_demo.json"), tmp_path).preferences
    export(pairs, form, tmp_path / NAMES[form])
    assert len(pairs) == 300
    assert texts(read_preferences(NAMES[form], tmp_path).preferences) == texts(pairs)


def test_a_row_for_openai_has_the_fields_of_its_guide_and_no_others(tmp_path: Path) -> None:
    row: dict[str, Any] = {
        "input": {
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "parallel_tool_calls": False,
        },
        "preferred_output": [{"role": "assistant", "content": "a"}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
    }
    noted = {**row, "input": {**row["input"], "id": 7}, "metadata": {"source": {"page": 3}}, "tags": ["x", "y"]}
    (tmp_path / "in.jsonl").write_text(json.dumps(noted) + "\n")
    pairs = read_preferences("in.jsonl", tmp_path).preferences
    assert isinstance(pairs[0].provenance, Imported)
    assert pairs[0].provenance.columns == {"metadata": noted["metadata"], "tags": noted["tags"]}
    export([*pairs, *PAIRS], "openai", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows[0] == row
    for exported in rows:
        jsonschema.validate(exported, OPENAI_ROW)


def test_trl_and_parquet_have_the_columns_of_trls_preference_form(tmp_path: Path) -> None:
    export(PAIRS, "trl", tmp_path / "a.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [{"prompt", "chosen", "rejected"}] * 2
    export(PAIRS, "parquet", tmp_path / "a.parquet")
    assert pq.read_schema(tmp_path / "a.parquet").names == ["prompt", "chosen", "rejected"]


def test_trl_reads_the_export(tmp_path: Path) -> None:
    from datasets import load_dataset
    from trl.data_utils import is_conversational

    export(PAIRS, "trl", tmp_path / "a.jsonl")
    data = load_dataset("json", data_files=str(tmp_path / "a.jsonl"), split="train", cache_dir=str(tmp_path / "cache"))
    assert is_conversational(data[0])
    assert data[0]["chosen"] == [{"role": "assistant", "content": "chosen\nwith lines"}]


def test_an_unknown_form_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="known: trl, openai, parquet, fairlead"):
        export(PAIRS, "csv", tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []
