"""`docs/config.md`: the prose of `page.md`, with a table of keys wherever a line `<!-- keys: Section -->` stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

from fairlead.config.base import NotInKey, Section
from fairlead.config.project import Config
from fairlead.config.reference.types_in_words import Link, default_in_words, sections_in, type_in_words

_PLACE = re.compile(r"<!-- keys: (\w+) -->")
_HEADING = re.compile(r"#+ (.+)")


def config_page() -> str:
    """The text of `docs/config.md`.

    Raises:
        LookupError: if a section of the config has no place in the prose, or the prose names one that there is not.
    """
    prose = (resources.files("fairlead.config.reference") / "page.md").read_text(encoding="utf-8")
    sections = {section.__name__: section for section in all_sections()}
    headings = _headings(prose)
    if set(headings) != set(sections):
        wrong = ", ".join(sorted(set(headings) ^ set(sections)))
        raise LookupError(f"page.md and the config do not have the same sections: {wrong}")

    def link(section: type[Section]) -> str:
        family, _, _ = headings[section.__name__].partition(" of kind ")
        return f"[{family}](#{anchor(family)})"

    return _PLACE.sub(lambda place: _table(sections[place[1]], link), prose)


def all_sections() -> list[type[Section]]:
    """Every section of the config, each once, in the order in which the file has them."""
    return list(dict.fromkeys(_walk(Config)))


def anchor(heading: str) -> str:
    """The anchor that GitHub and the docs site give to a heading.

    >>> anchor("`judge`: kind openai")
    'judge-kind-openai'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _walk(section: type[Section]) -> Iterator[type[Section]]:
    yield section
    for field in section.model_fields.values():
        for inner in sections_in(field.annotation):
            yield from _walk(inner)


def _headings(prose: str) -> dict[str, str]:
    """The heading above the table of each section."""
    headings: dict[str, str] = {}
    last = ""
    for line in prose.splitlines():
        heading, place = _HEADING.fullmatch(line), _PLACE.fullmatch(line)
        if heading is not None:
            last = heading[1].replace("`", "")
        elif place is not None:
            headings[place[1]] = last
    return headings


def _table(section: type[Section], link: Link) -> str:
    rows = [_about(section) + ".", "", "| key | type | default | what it does |", "|---|---|---|---|"]
    for key, field in section.fields_by_key().items():
        kind = type_in_words(field.annotation, field.metadata, link)
        does = _escaped(_description(section, key)) + (" (changes no result)" if NotInKey in field.metadata else "")
        cells = (f"`{key}`", kind, default_in_words(section, key), does)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _description(section: type[Section], key: str) -> str:
    """What a field says of itself, or what the section that it holds does."""
    field = section.fields_by_key()[key]
    if field.description or key == "kind":
        return field.description or "which kind it is"
    about = _about(next(sections_in(field.annotation)))
    return about[0].lower() + about[1:]


def _about(section: type[Section]) -> str:
    """The first paragraph of a section's docstring, without its full stop."""
    paragraph, _, _ = (section.__doc__ or "").partition("\n\n")
    return " ".join(paragraph.split()).rstrip(".")


def _escaped(text: str) -> str:
    """Plain text as Markdown."""
    return text.replace("<", "&lt;").replace("*", "\\*")
