"""Makes text of others (models, judges, data, file names, endpoints) safe to show.

Such text may hold escape sequences that repaint a terminal or fill its clipboard, characters that turn the direction of
what follows, HTML, and Markdown. The functions here make such characters visible and inactive.
"""

from __future__ import annotations

import html
import re

# Control characters but newline and tab, lone surrogates, other line breaks, what turns the direction of text, and the
# two that XML does not allow either.
_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)
# An underscore inside a word and a bracket that opens no link mean nothing, and intervals are full of brackets.
_MARKDOWN = re.compile(r"[\\`*|]|(?<!\w)_|_(?!\w)|\](?=[(\[:])")


def printable(text: str) -> str:
    r"""Text for a terminal or a file: active characters become visible, as in `\x1b`; lines and tabs stay.

    >>> printable("a\x1b]0;title\x07b")
    'a\\x1b]0;title\\x07b'
    """
    return _ACTIVE.sub(lambda match: _code_point(match[0]), text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Printable text with every run of white space as one blank."""
    return printable(" ".join(text.split()))


def shorten(text: str, most: int = 80) -> str:
    """One printable line of at most `most` characters, for a quotation in a message."""
    line = one_line(text[: 4 * most])
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 1]}…"


def json_text(text: str) -> str:
    r"""JSON whose active characters are written as `\uXXXX`: the same value, and safe to show."""
    return _ACTIVE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def markdown(text: str) -> str:
    """Text inside a line or a table cell of Markdown, which neither Markdown nor HTML interprets."""
    return _MARKDOWN.sub(r"\\\g<0>", html.escape(one_line(text), quote=False))


def code_span(text: str) -> str:
    """A name in a code span, which it cannot leave; a bar would end the cell of a table."""
    return f"`{one_line(text).replace('`', '’').replace('|', '¦')}`"


def code_block(text: str) -> str:
    """A code block whose fence is longer than any run of backticks in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{printable(text)}\n{fence}"


def _code_point(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
