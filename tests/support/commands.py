"""The command line in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from tests.support.processes import Forked

COMMAND = (sys.executable, "-c", "from fairlead.cli.main import main; main()")


def fairlead(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process that has imported everything; a new interpreter would need up to ten seconds for it."""
    process = Forked(run_command, *arguments, env=env)
    out, errors = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(["fairlead", *arguments], process.returncode, out, errors)


def run_command(*arguments: str) -> None:
    from fairlead.cli.main import main

    sys.argv = ["fairlead", *arguments]
    main()


def fairlead_as_installed(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a new interpreter, as a person starts it."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False)
