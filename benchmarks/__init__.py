"""Commands that measure what the documentation says, each a target of the Makefile: `python -m benchmarks.NAME`."""

from __future__ import annotations

from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
OUT = REPO / "benchmarks" / "out"
DATA = REPO.parent / "shared" / "data"
"""Real data that lies beside the checkout; a benchmark that needs it says so where it is not there."""

ADVISORIES = DATA / "advisories.jsonl"
