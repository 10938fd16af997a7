"""Commands that need no model start without the training libraries, which take seconds to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fairlead import Project

CODE = """
import sys
from fairlead.cli.main import app
project, pairs = sys.argv[1:]
for arguments in (
    ["status", project], ["diagnose", project], ["gate", project, "--no-run"], ["report", project, "--no-run"],
    ["eval", "-C", project, "--no-run"], ["judge", "ledger", project], ["data", "check", pairs],
):
    app(arguments, standalone_mode=False)
    heavy = sorted({"torch", "transformers", "trl", "peft"} & set(sys.modules))
    assert not heavy, (arguments, heavy)
"""


def test_commands_that_need_no_model_import_no_torch(finished: Path) -> None:
    pairs = Project(finished).artifact("pairs").file("train.jsonl")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(finished), str(pairs)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
