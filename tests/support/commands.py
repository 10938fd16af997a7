"""The command line in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def fairlead(*args: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from fairlead.cli.main import main; main()", *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **kwargs,
    )
