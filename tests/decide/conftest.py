"""The model that copies, trained once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.reader import train_reader


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_reader(tmp_path_factory.mktemp("reader") / "model")
