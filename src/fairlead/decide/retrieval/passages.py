"""Documents cut into passages: whole paragraphs if they fit, overlapping runs of words if one is too long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fairlead.decide.retrieval.documents import Document

_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
_PARAGRAPHS = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage.

    Attributes:
        document: name of the document it comes from.
        heading: the Markdown headings above it, joined; "" where there are none.
    """

    document: str
    text: str
    heading: str = ""

    @property
    def searched(self) -> str:
        """The text that is searched: headings and passage."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


def passages_of(document: Document, *, chunk_words: int, overlap_words: int) -> list[Passage]:
    """The document's passages, in order; none has more than `chunk_words` words, and no word is lost."""
    passages: list[Passage] = []
    for heading, body in _sections(document):
        passages += [Passage(document.name, text, heading) for text in _pieces(body, chunk_words, overlap_words)]
    return passages


def _sections(document: Document) -> Iterator[tuple[str, str]]:
    """(headings above, body) of every part between two headings."""
    if not document.markdown:
        yield "", document.text
        return
    above: list[tuple[int, str]] = []
    body: list[str] = []
    fenced = False
    for line in document.text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        match = None if fenced else _HEADING.match(line)
        if match is None:
            body.append(line)
            continue
        yield " > ".join(text for _, text in above), "\n".join(body)
        body = []
        level = len(match[1])
        above = [(depth, text) for depth, text in above if depth < level] + [(level, match[2])]
    yield " > ".join(text for _, text in above), "\n".join(body)


def _pieces(text: str, most: int, overlap: int) -> Iterator[str]:
    """Paragraphs joined as long as they fit."""
    joined: list[str] = []
    words = 0
    for paragraph in (p.strip() for p in _PARAGRAPHS.split(text)):
        count = len(paragraph.split())
        if joined and words + count > most:
            yield "\n\n".join(joined)
            joined, words = [], 0
        if count > most:
            yield from _windows(paragraph.split(), most, overlap)
        elif count:
            joined.append(paragraph)
            words += count
    if joined:
        yield "\n\n".join(joined)


def _windows(words: list[str], most: int, overlap: int) -> Iterator[str]:
    start = 0
    while True:
        yield " ".join(words[start : start + most])
        if start + most >= len(words):
            return
        start += most - overlap
