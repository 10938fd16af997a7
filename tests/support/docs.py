"""What stands in the Markdown pages: their code blocks, headings and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.support.projects import REPO

PAGES = (*sorted((REPO / "docs").glob("*.md")), REPO / "README.md", REPO / "CHANGELOG.md")


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        language: what stands after the fence; empty where the block is indented.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def parsed(page: Path) -> list[Token]:
    return MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    return [
        Block(page.name, (token.map or [0])[0] + 1, token.info.strip(), token.content)
        for token in parsed(page)
        if token.type in ("fence", "code_block")
    ]


def links(page: Path) -> Iterator[str]:
    """The targets of all links and images of a page."""
    for token in parsed(page):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target:
                yield str(target)


def anchors(page: Path) -> list[str]:
    """The anchors of all headings of a page, as GitHub makes them."""
    headings = [after for token, after in pairwise(parsed(page)) if token.type == "heading_open"]
    texts = ["".join(child.content for child in heading.children or ()) for heading in headings]
    return [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts]


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A config with the sections of another put over it; a judge and a decision replace the former ones whole."""
    result = dict(under)
    for key, value in over.items():
        inside = isinstance(value, dict) and isinstance(under.get(key), dict) and key not in ("judge", "decide")
        result[key] = merged(under[key], value) if inside else value
    return result
