"""What users run on large files of verdicts gives the figures that the statistics promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead.evaluation.external import annotations
from fairlead.files import write_jsonl


def eval_stats(path: Path, form: str) -> dict[str, Any]:
    """The figures by their published names."""
    return annotations.eval_stats(path, form).model_dump(mode="json")


@pytest.mark.slow
@pytest.mark.parametrize("in_cluster", [1, 2])
def test_sixty_thousand_verdicts_have_an_interval_at_equal_length_as_wide_as_that_of_the_win_rate(
    tmp_path: Path, in_cluster: int
) -> None:
    rng = np.random.default_rng(0)
    lengths, verdicts = rng.integers(50, 200, (60_000, 2)), rng.random(60_000).round(6).tolist()
    rows: list[dict[str, Any]] = [
        {"prompt": f"p{n}", "first": "a" * a, "second": "b" * b, "verdict": v, "cluster": f"c{n // in_cluster}"}
        for n, ((a, b), v) in enumerate(zip(lengths.tolist(), verdicts, strict=True))
    ]
    write_jsonl(tmp_path / "verdicts.jsonl", rows)
    stats = eval_stats(tmp_path / "verdicts.jsonl", "jsonl")
    assert stats["length_adjusted_win_rate"]["high"] - stats["length_adjusted_win_rate"]["low"] == pytest.approx(
        stats["interval"]["high"] - stats["interval"]["low"], rel=0.1
    )
