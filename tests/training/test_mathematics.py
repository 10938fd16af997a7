"""docs/mathematics.md points at files that exist, and at names that are in them."""

from __future__ import annotations

import re

from fairlead.training.dpo_trainer import loss
from tests.support.projects import REPO


def test_every_file_that_the_page_names_exists() -> None:
    text = (REPO / "docs" / "mathematics.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|tests)/[\w/]+\.py)`", text)
    assert len(named) >= 9
    assert [path for path in named if not (REPO / path).is_file()] == []
    assert not re.search(r"(?<!src/fairlead/)(?<!tests/)training/\w+\.py", text), "a path without its beginning"


def test_the_functions_of_the_loss_that_the_page_names_are_there() -> None:
    text = (REPO / "docs" / "mathematics.md").read_text(encoding="utf-8")
    functions = [name for name, value in vars(loss).items() if getattr(value, "__module__", "") == loss.__name__]
    assert functions == ["margin", "dpo_loss", "gradient_weight"]
    assert [name for name in functions if f"`{name}`" not in text] == []
