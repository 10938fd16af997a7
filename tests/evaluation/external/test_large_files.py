"""What users run on large files of verdicts stays quick, and the short cut for them changes nothing (4 s)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead.evaluation.external.annotations import eval_stats
from fairlead.files import write_jsonl
from fairlead.statistics import win_rate as win_rate_module
from fairlead.statistics.win_rate import length_adjusted_win_rate


@pytest.mark.parametrize("in_cluster", [1, 2])
def test_the_figures_of_sixty_thousand_verdicts_take_seconds(tmp_path: Path, in_cluster: int) -> None:
    rng = np.random.default_rng(0)
    lengths, verdicts = rng.integers(50, 200, (60_000, 2)), rng.random(60_000).round(6).tolist()
    rows: list[dict[str, Any]] = [
        {"prompt": f"p{n}", "first": "a" * a, "second": "b" * b, "verdict": v, "cluster": f"c{n // in_cluster}"}
        for n, ((a, b), v) in enumerate(zip(lengths.tolist(), verdicts, strict=True))
    ]
    write_jsonl(tmp_path / "verdicts.jsonl", rows)
    start = time.process_time()
    found = eval_stats(tmp_path / "verdicts.jsonl", "jsonl")
    assert time.process_time() - start < 10
    assert found["length_adjusted_win_rate"]["high"] - found["length_adjusted_win_rate"]["low"] == pytest.approx(
        found["interval"]["high"] - found["interval"]["low"], rel=0.1
    )


@pytest.mark.parametrize("in_cluster", [1, 3])
def test_one_step_refits_give_the_interval_of_whole_refits(monkeypatch: pytest.MonkeyPatch, in_cluster: int) -> None:
    rng = np.random.default_rng(1)
    mine, theirs = rng.integers(50, 400, (2, 2_400))
    outcomes = (rng.random(2_400) < 0.5 + (mine - theirs) / 1_000).astype(float)
    clusters = np.arange(2_400) // in_cluster
    found = []
    for many in (0, 10**9):
        monkeypatch.setattr(win_rate_module, "_MANY", many)
        found.append(length_adjusted_win_rate(outcomes, mine, theirs, np.random.default_rng(2), clusters, draws=4_000))
    quick, whole = found
    assert quick.value == whole.value
    assert (quick.low, quick.high) == pytest.approx((whole.low, whole.high), abs=0.002)
