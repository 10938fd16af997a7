"""Where a reply store may lie: an SQLite file, and a PostgreSQL server of the test run's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of this test run's own."""
    pytest.importorskip("psycopg", reason="the Postgres ledger is not tested: pip install 'fairlead[postgres]'")
    initdb, pg_ctl = shutil.which("initdb"), shutil.which("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("the Postgres ledger is not tested: no initdb and pg_ctl on the PATH")
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
    found: str = request.getfixturevalue("database")
    return found
