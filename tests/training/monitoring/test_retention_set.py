"""Rows of general use are read in the tokenizer's chat form, and a row of another form is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.config.model import ModelSection
from fairlead.errors import DataError
from fairlead.models.loading import load_tokenizer
from fairlead.training.monitoring.retention_set import read_retention_set


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "a"}', "no field 'answer'"),
        ('["a"]', "not an object but a list"),
        ('{"prompt": 1, "answer": "b"}', "field 'prompt' must be a string, not 1"),
    ],
)
def test_a_general_row_of_another_form_is_named(tmp_path: Path, tiny_model: Path, text: str, message: str) -> None:
    tokenizer = load_tokenizer(ModelSection(name=str(tiny_model)), tmp_path)
    (tmp_path / "general.jsonl").write_text(f'{{"prompt": "a", "answer": "b"}}\n{text}\n')
    with pytest.raises(DataError, match=rf"general\.jsonl:2: {message}"):
        read_retention_set(tmp_path / "general.jsonl", tokenizer, 64)
    (tmp_path / "general.jsonl").write_text("")
    with pytest.raises(DataError, match="has no rows"):
        read_retention_set(tmp_path / "general.jsonl", tokenizer, 64)
    (tmp_path / "general.jsonl").write_text('{"prompt": "' + "disk " * 100 + '", "answer": "b"}')
    with pytest.raises(DataError, match="has no row that can be used"):
        read_retention_set(tmp_path / "general.jsonl", tokenizer, 64)
