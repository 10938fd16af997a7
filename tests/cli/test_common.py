"""What is printed: text as it is, JSON that is the same value, and nothing that repaints a terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fairlead.cli import common

CLIPBOARD = "\x1b]52;c;cm0gLXJm\x07"


def table() -> Table:
    made = Table("name")
    made.add_row(CLIPBOARD)
    return made


@pytest.mark.parametrize("renderable", [CLIPBOARD, Text(CLIPBOARD), table(), Panel(Text(CLIPBOARD))])
def test_no_control_character_of_others_reaches_the_terminal(renderable: Any) -> None:
    console = common.SafeConsole()
    with console.capture() as captured:
        console.print(renderable)
    assert "\x1b" not in captured.get()
    assert "\\x1b]52" in captured.get()


def test_markup_and_emoji_names_are_plain_text() -> None:
    console = common.SafeConsole()
    with console.capture() as captured:
        console.print("[bold]a[/bold] :fire: 12")
    assert captured.get() == "[bold]a[/bold] :fire: 12\n"


def test_json_is_safe_to_show_and_the_same_value(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_json({"text": f"é {CLIPBOARD} \u202e"})
    printed = capsys.readouterr().out
    assert "\\u202e" in printed
    assert "é" in printed
    assert json.loads(printed) == {"text": f"é {CLIPBOARD} \u202e"}
