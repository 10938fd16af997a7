"""Prompt templates: files with versions, built in or the user's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fairlead.errors import ConfigError
from fairlead.files import read_text
from fairlead.records import Message, Role

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)

_NEEDED = {
    "pairwise": {"prompt", "answer_a", "answer_b", "fence"},
    "score": {"prompt", "answer", "fence"},
    "sourced_score": {"prompt", "answer", "fence", "source"},
    "correction": set[str](),
}
_KNOWN = {
    "pairwise": {*_NEEDED["pairwise"], "criteria"},
    "score": {*_NEEDED["score"], "criteria", "source"},
    "sourced_score": {*_NEEDED["sourced_score"], "criteria"},
    "correction": {"form"},
}


@dataclass(frozen=True)
class PromptTemplate:
    """A template with its version.

    Attributes:
        version: name of the file and hash of its text; part of every request's key.
    """

    version: str
    _template: Template

    def messages(self, **values: Any) -> tuple[Message, ...]:
        """A system message where the template has a block of that name, and a user message."""
        blocks = self._template.blocks
        if "user" not in blocks:
            return (Message("user", self._template.render(**values).strip()),)
        context = self._template.new_context(values)
        roles: tuple[Role, ...] = ("system", "user")
        texts = {role: "".join(blocks[role](context)).strip() for role in roles if role in blocks}
        return tuple(Message(role, text) for role, text in texts.items() if text)


def load(use: str, file: str | None, folder: Path) -> PromptTemplate:
    """The built-in template of a use, or the user's own.

    Args:
        use: pairwise, score, sourced_score (a score of an answer beside the source it rests on) or correction.
        file: the user's file, relative to `folder`.

    Raises:
        ConfigError: if the file is no template, or leaves out what must be shown.
    """
    if file is None:
        name = f"{use}_v1"
        text = (resources.files("fairlead.judges") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
        where = name
    else:
        path = Path(folder) / file
        text, name, where = read_text(path), path.stem, str(path)
    try:
        variables = meta.find_undeclared_variables(_ENVIRONMENT.parse(text))
        template = _ENVIRONMENT.from_string(text)
    except TemplateError as error:
        raise ConfigError(f"is no Jinja template: {error}", where=where) from error
    _check(use, variables, where)
    return PromptTemplate(f"{name}@{hashlib.sha256(text.encode()).hexdigest()[:8]}", template)


def _check(use: str, variables: Iterable[str], where: str) -> None:
    missing = sorted(_NEEDED[use] - set(variables))
    unknown = sorted(set(variables) - _KNOWN[use])
    if missing:
        raise ConfigError(
            f"never shows {{{{ {missing[0]} }}}}",
            where=where,
            remedy=f"a {use} template must show {', '.join(sorted(_NEEDED[use]))}",
        )
    if unknown:
        raise ConfigError(
            f"uses {{{{ {unknown[0]} }}}}, which is not given",
            where=where,
            remedy=f"given: {', '.join(sorted(_KNOWN[use]))}",
        )
