"""The table of docs/architectures.md is what `make architectures` measures."""

from __future__ import annotations

import pytest

from benchmarks.architectures.__main__ import families, measure
from tests.support.projects import REPO

PAGE = (REPO / "docs" / "architectures.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("`"): cells
    for line in PAGE.splitlines()
    if line.startswith("| `") and len(cells := [cell.strip() for cell in line.strip("|").split(" | ")]) == 6
}


@pytest.mark.parametrize(
    "family",
    ["qwen3", "gemma4_text", "gemma3", "phimoe", "qwen3_5_text", "lfm2", "nemotron_h", "falcon_mamba", "gpt_neo"],
)
def test_a_family_is_measured_as_the_page_says(family: str) -> None:
    cells = [cell.strip() for cell in measure(family).cells()]
    expected = ROWS[family]
    assert [cells[n] for n in (0, 1, 4, 5)] == [expected[n] for n in (0, 1, 4, 5)]
    for measured in (cells[2], cells[3]):
        assert float(measured.rstrip("*")) < 1e-4


def test_the_page_names_every_family() -> None:
    missing = [family for family in families() if f"`{family}`" not in PAGE]
    assert missing == []
