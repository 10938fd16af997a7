"""The tiny project of this folder's tests: what comes before DPO is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead import Project


@pytest.fixture
def tiny_project(project: Project) -> Path:
    """The finished project, so that no test has to train SFT and draw answers for the pairs that it starts from."""
    return project.folder
