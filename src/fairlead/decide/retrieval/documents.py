"""Documents of a folder as text: plain text, Markdown, HTML, PDF. What cannot be read is named with its reason.

A document is data: nothing in it is run, fetched or followed as an instruction.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser, LexborNode

from fairlead.errors import DataError, some

_TEXT = (".txt", ".text", ".rst", ".log", ".csv", ".tsv")
_MARKDOWN = (".md", ".markdown")
_HTML = (".html", ".htm", ".xhtml")
_PDF = (".pdf",)
SUFFIXES = (*_TEXT, *_MARKDOWN, *_HTML, *_PDF)

_MOST_PAGES = 2000  # of one PDF
_CONTROL = [chr(code) for code in range(32) if chr(code) not in "\t\n\r\f\v\b\x1b"]
_CONTROL_SHARE = 0.02  # more control characters than this is no text, whatever its suffix says


@dataclass(frozen=True, slots=True)
class Document:
    """A document's text.

    Attributes:
        name: its path below the folder.
        markdown: whether lines that begin with # are headings.
    """

    name: str
    text: str
    markdown: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A document that could not be used, and why."""

    name: str
    reason: str


class _UnreadableError(Exception):
    """Why a document has no text."""


def read_documents(folder: Path, *, max_megabytes: float) -> tuple[list[Document], list[LeftOut]]:
    """Every document below `folder`, by name, and those that are left out.

    Raises:
        DataError: if the folder does not exist or no document in it can be used.
    """
    if not folder.is_dir():
        raise DataError("no such folder", where=str(folder), remedy="correct decide.retrieval.documents")
    documents: list[Document] = []
    left_out: list[LeftOut] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".") or "/." in name:
            continue
        try:
            documents.append(_read(path, name, max_megabytes))
        except _UnreadableError as error:
            left_out.append(LeftOut(name, str(error)))
        except OSError as error:
            left_out.append(LeftOut(name, f"cannot be read ({error.strerror})"))
    if not documents:
        reasons = some((f"{item.name} ({item.reason})" for item in left_out), 3) or "it is empty"
        raise DataError(
            f"holds no document that can be used: {reasons}",
            where=str(folder),
            remedy=f"put files there of the kinds {', '.join(SUFFIXES)}, in UTF-8",
        )
    return documents, left_out


def _read(path: Path, name: str, max_megabytes: float) -> Document:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise _UnreadableError(f"of no known kind ({', '.join(SUFFIXES)})")
    size = path.stat().st_size
    if size > max_megabytes * 1e6:
        raise _UnreadableError(f"{size / 1e6:.1f} MB, above retrieval.max_megabytes {max_megabytes:g}")
    if size == 0:
        raise _UnreadableError("empty")
    readers: dict[tuple[str, ...], Callable[[Path], str]] = {_PDF: _pdf, _HTML: lambda p: html_text(_utf8(p))}
    read = next((reader for suffixes, reader in readers.items() if suffix in suffixes), _utf8)
    text = read(path).strip()
    if not text:
        raise _UnreadableError("holds no text")
    return Document(name, text, markdown=suffix in _MARKDOWN)


def _utf8(path: Path) -> str:
    data = path.read_bytes()
    if (form := _utf16(data)) is not None:
        raise _UnreadableError(
            f"not UTF-8 ({form}); convert it: iconv -f {form} -t UTF-8 {path.name} -o utf8-{path.name}"
        )
    if b"\0" in data:
        raise _UnreadableError("binary, not text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UnreadableError(
            f"not UTF-8 (byte {error.start}); convert it: iconv -f LATIN1 -t UTF-8 {path.name} -o utf8-{path.name}"
        ) from error
    if sum(map(text.count, _CONTROL)) > _CONTROL_SHARE * len(text):
        raise _UnreadableError("binary, not text")
    return text


def _utf16(data: bytes) -> str | None:
    """The name of the form of UTF-16 or UTF-32 that a byte-order mark, or every second byte's being 0, tells."""
    for mark, form in (
        (codecs.BOM_UTF32_LE, "UTF-32"),
        (codecs.BOM_UTF32_BE, "UTF-32"),
        (codecs.BOM_UTF16_LE, "UTF-16"),
        (codecs.BOM_UTF16_BE, "UTF-16"),
    ):
        if data.startswith(mark):
            return form
    for first, form in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        if len(data) >= 4 and not any(data[first::2]) and all(data[1 - first :: 2]):
            return form
    return None


def _pdf(path: Path) -> str:
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its complaints about odd files become our one line
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise _UnreadableError("an encrypted PDF")
        if len(reader.pages) > _MOST_PAGES:
            raise _UnreadableError(f"a PDF of {len(reader.pages)} pages, at most {_MOST_PAGES} are read")
        text = "\n\n".join(page.extract_text() for page in reader.pages)
    except _UnreadableError:
        raise
    except Exception as error:  # a broken or malicious PDF may make the reader raise anything
        first = (str(error).splitlines() or [""])[0]
        raise _UnreadableError(f"no readable PDF ({type(error).__name__}: {first[:100]})") from error
    if not text.strip():
        raise _UnreadableError("a PDF without text (scanned pages?)")
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")


_DEEPEST = 1000
# Elements that need no end tag, such as <p> and <br>, nest nothing.
_NESTING_TAGS = re.compile(
    r"<(/?)(?!(?:area|base|br|col|dd|dt|hr|img|input|li|link|meta|option|p|source|t[dhr]|wbr)\b)[a-z]", re.IGNORECASE
)
_HIDDEN = ["script", "style", "template", "noscript", "head", "svg"]
_VOID = frozenset({"br", "hr"})  # nothing is in them, so they have no end
_LINES = frozenset({"br", "li", "td", "th", "tr", "dd", "dt"})
_BLOCKS = _LINES | {
    "address", "article", "aside", "blockquote", "div", "dl", "figcaption", "footer", "form", "h1", "h2", "h3",
    "h4", "h5", "h6", "header", "hr", "main", "nav", "ol", "p", "pre", "section", "table", "tbody", "thead", "ul",
}  # fmt: skip


def html_text(html: str) -> str:
    """The visible text of a page, its blocks as paragraphs."""
    if _depth(html) > _DEEPEST:
        raise _UnreadableError(f"HTML that nests its elements more than {_DEEPEST} deep")
    tree = LexborHTMLParser(html)
    tree.strip_tags(_HIDDEN)
    text = re.sub(r"[ \t]*\n[ \t]*", "\n", "".join(_parts(tree.root)))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _depth(html: str) -> int:
    """How deep the elements nest that must be closed; the parser's time grows with its square."""
    depth = deepest = 0
    for tag in _NESTING_TAGS.finditer(html):
        depth = max(0, depth - 1) if tag[1] else depth + 1
        deepest = max(deepest, depth)
    return deepest


def _parts(root: LexborNode | None) -> Iterator[str]:
    """The texts below a node in order, with line breaks where a block begins and ends.

    A stack of its own, because pages may nest deeper than Python's.
    """
    stack: list[tuple[LexborNode | None, str]] = [(root, "")]
    while stack:
        node, end = stack.pop()
        if node is None:
            yield end
            continue
        if node is not root and node.next is not None:
            stack.append((node.next, ""))
        if node.tag == "-text":
            yield re.sub(r"\s+", " ", node.text_content or "")
            continue
        if node.tag in _BLOCKS:
            yield "\n" if node.tag in _LINES else "\n\n"
            if node.tag not in _VOID:
                stack.append((None, "\n"))
        if node.child is not None:
            stack.append((node.child, ""))
