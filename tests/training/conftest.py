"""What every test of training has."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of reference log-probabilities that no other test has written to."""
    monkeypatch.setenv("FAIRLEAD_CACHE", str(tmp_path / "cache"))
