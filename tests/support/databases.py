"""Where a reply store may lie: an SQLite file, and a PostgreSQL server of the test run's own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest


def _program(name: str) -> str | None:
    """A program of the server's; Debian puts them beside the PATH."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(beside[-1]) if beside else None)


def _missing(what: str) -> NoReturn:
    """Skips, or fails where the test run must not go without Postgres."""
    if os.environ.get("FAIRLEAD_TEST_POSTGRES") == "required":
        pytest.fail(f"Postgres is required: {what}")
    pytest.skip(f"the Postgres ledger is not tested: {what}")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of this test run's own."""
    if importlib.util.find_spec("psycopg") is None:
        _missing("pip install 'fairlead[postgres]'")
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if initdb is None or pg_ctl is None:
        _missing("no initdb and pg_ctl on the PATH or in /usr/lib/postgresql: apt-get install postgresql")
    root = os.geteuid() == 0
    folder = Path("/tmp") / f"fairlead-pg-{os.getpid()}"  # a socket's path must be short, and its user must reach it
    folder.mkdir(mode=0o700)
    user = "nobody" if root else None  # the server refuses to run as root
    if root:
        shutil.chown(folder, "nobody")

    def run(*command: str) -> None:
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)

    data = str(folder / "data")
    run(initdb, "-D", data, "-U", "judge", "--auth=trust", "--no-sync")
    run(pg_ctl, "-D", data, "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -c listen_addresses=", "start")
    try:
        yield f"postgresql://judge@/postgres?host={folder}"
    finally:
        run(pg_ctl, "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def database(postgres: str) -> str:
    import psycopg

    with psycopg.connect(postgres) as connection:
        connection.execute("DROP TABLE IF EXISTS replies, claims")
    return postgres


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a ledger may lie."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.sqlite")
    address: str = request.getfixturevalue("database")
    return address
