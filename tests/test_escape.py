"""Text of others is shown as what it is made of, and does nothing to the terminal, to Markdown or to HTML."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead import escape
from fairlead.errors import DataError

CLEAR = "\x1b[2J"
TITLE = "\x1b]0;owned\x07"
CLIPBOARD = "\x1b]52;c;cm0gLXJm\x07"
TURNED = "safe\u202etxt.exe"
ONE_BYTE = "\x9b31m"

HOSTILE = [CLEAR, TITLE, CLIPBOARD, TURNED, ONE_BYTE, "a\u2066b\u2069", "a\rb", "\u2028", "\ud800"]


DIRECTION = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def is_active(text: str) -> bool:
    """Whether a character controls the terminal, breaks the line oddly, turns the direction, or cannot be encoded."""
    return any(
        (unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") and char not in "\n\t")
        or unicodedata.bidirectional(char) in DIRECTION
        for char in text
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_would_obey_becomes_visible(text: str) -> None:
    escaped = escape.printable(text)
    assert "\\" in escaped
    assert not is_active(escaped)
    escaped.encode("utf-8")


def test_lines_tabs_and_every_script_stay() -> None:
    text = "ein Satz\n\tמשפט, जुमला, 👩‍🔬\n"
    assert escape.printable(text) == text
    assert escape.printable("a\r\nb") == "a\nb"


def test_a_quotation_has_at_most_as_many_characters_as_asked() -> None:
    assert escape.shorten("short") == "short"
    assert escape.shorten("x" * 97_828) == "x" * 79 + "…"
    assert len(escape.shorten("\x1b" * 500, 80)) == 80


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a & b", "a &amp; b"),
        ("[click](javascript:x)", "[click\\](javascript:x)"),
        ("![x][y]", "![x\\][y]"),
        ("*bold* _slanted_ `code`", "\\*bold\\* \\_slanted\\_ \\`code\\`"),
        ("judge_score [0.1, 0.2]", "judge_score [0.1, 0.2]"),
        ("a | b\nc", "a \\| b c"),
        ("back\\slash", "back\\\\slash"),
        (TITLE, "\\\\x1b]0;owned\\\\x07"),
    ],
)
def test_markdown_and_html_interpret_nothing(text: str, expected: str) -> None:
    assert escape.markdown(text) == expected


def test_a_code_block_is_longer_than_any_fence_inside_it() -> None:
    block = escape.code_block("```\n# heading\n````" + CLEAR)
    assert block.startswith("`````text\n")
    assert block.endswith("\n`````")
    assert "\x1b" not in block


def test_a_code_span_cannot_be_left() -> None:
    assert escape.code_span("a`b|c\nd") == "`a’b¦c d`"


@given(st.text())
def test_json_stays_the_same_value(text: str) -> None:
    written = escape.json_text(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(written) == {"text": text}
    assert not is_active(written)


@given(st.text(max_size=40))
def test_printable_text_is_printed_again_unchanged(text: str) -> None:
    assert escape.printable(escape.printable(text)) == escape.printable(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_is_one_line_without_control_characters(text: str) -> None:
    error = str(DataError(f"no column {text}", where=f"{text}.jsonl:3", remedy=f"rename {text}"))
    assert "\n" not in error
    assert not is_active(error)
