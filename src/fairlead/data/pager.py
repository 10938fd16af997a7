"""Shows pairs side by side, chosen and rejected, with the judge's reason."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from fairlead.records import Imported, Preference, Sampled


def pages(pairs: Sequence[Preference], places: Sequence[str], most_chars: int) -> Iterator[RenderableType]:
    """One printable block for each pair.

    Args:
        most_chars: the longest text that is shown whole; of a longer one the number of omitted characters is given.
    """
    for pair, place in zip(pairs, places, strict=True):
        yield _page(pair, place, most_chars)


def _page(pair: Preference, place: str, most_chars: int) -> RenderableType:
    table = Table("chosen", "rejected", expand=True, show_lines=True)
    table.add_row(*(Text(clipped(text, most_chars)) for text in (pair.chosen, pair.rejected)))
    margin = "" if pair.margin is None else f"  margin {pair.margin:g}"
    blocks: list[RenderableType] = [
        Rule(Text(f"row {place}{margin}"), align="left"),
        Text(clipped(pair.prompt.text, most_chars), style="bold"),
        table,
    ]
    for name, text in _verdict(pair).items():
        blocks.append(Text(f"{name}: {clipped(text, most_chars)}", style="dim"))
    return Group(*blocks)


def _verdict(pair: Preference) -> dict[str, str]:
    """The judge and its reason, as the pair was judged here or as columns of the imported row give them."""
    match pair.provenance:
        case Sampled(judge=judge, reason=reason):
            columns: Mapping[str, object] = {"judge": judge, "reason": reason}
        case Imported(columns=columns):
            pass
        case _:
            return {}
    texts = {name: columns.get(name) for name in ("judge", "reason")}
    return {name: text for name, text in texts.items() if isinstance(text, str) and text}


def clipped(text: str, max_chars: int) -> str:
    """A text without what could steer a terminal, and not longer than `max_chars` characters."""
    safe = "".join(char if char.isprintable() or char == "\n" else " " if char == "\t" else "�" for char in text)
    return safe if len(safe) <= max_chars else f"{safe[:max_chars]}… [{len(safe) - max_chars} characters more]"


def through_pager(blocks: Iterable[str]) -> None:
    """Sends texts to the environment's pager one by one, or prints them if there is none."""
    command = shlex.split(os.environ.get("PAGER", "less"))
    try:
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, env={"LESS": "-R", **os.environ})
    except OSError:
        for block in blocks:
            sys.stdout.write(block)
        return
    assert pager.stdin is not None
    try:
        with pager.stdin as pipe:
            for block in blocks:
                pipe.write(block.encode("utf-8", "replace"))
                pipe.flush()
    except BrokenPipeError:
        pass  # whoever reads has seen enough
    pager.wait()
