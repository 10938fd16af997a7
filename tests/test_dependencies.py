"""What the package imports is declared in pyproject.toml, and what is declared is imported or named as a reason."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from importlib import metadata

from tests.support.projects import REPO

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Declared without an import of ours: what the library that is imported needs for what we use of it.
WITHOUT_IMPORT = {"psycopg": "SQLAlchemy's driver for Postgres"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {canonical(re.split(r"[<>=\[; ]", requirement)[0]) for requirement in requirements}


packages_distributions = cache(metadata.packages_distributions)


@cache
def imported() -> dict[str, set[str]]:
    """Top-level modules that the package imports, each with the files that do."""
    importers: dict[str, set[str]] = {}
    for path in (REPO / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                importers.setdefault(name.partition(".")[0], set()).add(path.name)
    return {name: files for name, files in importers.items() if name not in {"fairlead", *sys.stdlib_module_names}}


def test_every_imported_package_is_declared() -> None:
    distributions = packages_distributions()
    extras = PROJECT["optional-dependencies"]
    known = declared(PROJECT["dependencies"]) | declared(
        [r for name, rs in extras.items() if name != "dev" for r in rs]
    )
    modules = imported()
    assert len(modules) > 20
    missing = {}
    for module, files in modules.items():
        names = {canonical(name) for name in distributions.get(module, [module])}
        if not names & known:
            missing[module] = sorted(files)
    assert missing == {}


def test_every_dependency_is_imported() -> None:
    distributions = packages_distributions()
    used = {canonical(name) for module in imported() for name in distributions.get(module, [module])}
    unused = declared(PROJECT["dependencies"]) - used - set(WITHOUT_IMPORT)
    assert unused == set()
