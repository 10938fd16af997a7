"""The database of the reply store: SQLite by default, Postgres where a URL names one; its tables, and their migration.

SQLite runs in WAL mode with full synchronisation, so that a committed reply survives a kill and a power cut.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import QueuePool

from fairlead.errors import JudgeError
from fairlead.files import disk_errors

ENVIRONMENT = "FAIRLEAD_LEDGER"
_WAIT_S = 600  # for the one connection that writes
T = TypeVar("T")

_DEADLOCK, _DEADLOCK_RETRIES = "40P01", 5

metadata = sa.MetaData()
# `question` held the subject, its variant and "corrected" in one text before there was a column for each.
replies = sa.Table(
    "replies",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("question", sa.Text, key="subject", nullable=False),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("template", sa.Text, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("finish", sa.Text, nullable=False),
    sa.Column("refusal", sa.Text),
    sa.Column("logprobs", sa.Text),
    sa.Column("input_tokens", sa.BigInteger),
    sa.Column("output_tokens", sa.BigInteger),
    sa.Column("cost", sa.Double),
    sa.Column("latency", sa.Double, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("verdict", sa.Text),
    sa.Column("purpose", sa.Text, nullable=False, server_default="plain"),
    sa.Column("variant", sa.Text, nullable=False, server_default=""),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
)
# Requests that a process is sending just now, so that no other sends them too.
claims = sa.Table(
    "claims",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)


class Database:
    """Reads and writes in transactions, from any thread.

    Args:
        where: an SQLite file, or a postgresql:// URL (needs the extra `postgres`).

    Raises:
        JudgeError: if the file is no database of replies, or the server cannot be reached.
    """

    def __init__(self, where: Path | str) -> None:
        self._on_server = str(where).startswith(("postgres://", "postgresql://"))
        self._explain: Callable[[Exception], JudgeError]
        self._reader: sa.Engine
        if self._on_server:
            self._explain = _server_error
            self._writer = _postgres(str(where))
            self._reader = self._writer.execution_options(isolation_level="AUTOCOMMIT")
        else:
            path = Path(where)
            self._explain = lambda error: _file_error(error, path)
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _sqlite(path, begin="BEGIN IMMEDIATE", connections=1)
            self._reader = _sqlite(path, begin=None, connections=4)
        self.write(self._migrate)

    def read(self, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._one_line_errors(), self._reader.connect() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """The result of `work` in one transaction, which is begun again where Postgres ended it as a deadlock."""
        for _ in range(_DEADLOCK_RETRIES):
            with contextlib.suppress(_DeadlockError):
                return self._once(work)
        return self._once(work)

    def _once(self, work: Callable[[sa.Connection], T]) -> T:
        with self._one_line_errors(), self._writer.begin() as connection:
            return work(connection)

    def insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """An insert that knows ON CONFLICT."""
        return postgresql.insert(table) if self._on_server else sqlite.insert(table)

    def now(self) -> sa.ColumnElement[float]:
        """Seconds since the epoch, by the one clock that all who share the database have."""
        if self._on_server:
            return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        return sa.literal(time.time())

    def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _DEADLOCK:
                raise _DeadlockError("the ledger's server is overloaded", where=ENVIRONMENT) from None
            raise self._explain(error) from None
        except (sqlite3.Error, sa.exc.TimeoutError) as error:
            raise self._explain(error) from None

    def _migrate(self, connection: sa.Connection) -> None:
        """Makes the tables, and gives those of earlier versions the columns that they lack."""
        if self._on_server:  # two processes that open a new database at once would both make the tables
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('fairlead replies'))"))
        metadata.create_all(connection)
        present = {column["name"] for column in sa.inspect(connection).get_columns("replies")}
        missing = [column for column in replies.columns if column.name not in present]
        for column in missing:
            definition = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(sa.text(f"ALTER TABLE replies ADD COLUMN {definition}"))
        if any(column.name == "purpose" for column in missing):
            _split_subjects(connection)


class _DeadlockError(JudgeError):
    """Postgres ended one of two transactions that waited for each other."""


def _split_subjects(connection: sa.Connection) -> None:
    """Fills the columns that earlier versions kept in one text, such as "1f3a/ab/corrected".

    What `decide` had asked was read as if it were a score; nothing is read from it any more.
    """
    rows = connection.execute(sa.select(replies.c.key, replies.c.subject, replies.c.verdict)).fetchall()
    values = [_split(key, subject, verdict) for key, subject, verdict in rows]
    if values:
        statement = sa.update(replies).where(replies.c.key == sa.bindparam("_key"))
        names = ("subject", "purpose", "variant", "attempt", "verdict")
        connection.execute(statement.values({name: sa.bindparam(f"_{name}") for name in names}), values)


def _split(key: str, text: str, verdict: str | None) -> Mapping[str, Any]:
    """The columns of one row, as parameters of the update."""
    subject, *rest = text.split("/")
    corrected = rest[-1:] == ["corrected"]
    purpose = "pairwise" if rest[:1] in (["ab"], ["ba"]) else "score" if rest[:1] == ["score"] else "plain"
    return {
        "_key": key,
        "_subject": subject if purpose != "plain" else text,
        "_purpose": purpose,
        "_variant": rest[0] if purpose == "pairwise" else "",
        "_attempt": 2 if corrected else 1,
        "_verdict": None if purpose == "plain" else verdict,
    }


def _sqlite(path: Path, *, begin: str | None, connections: int) -> sa.Engine:
    """An engine for a file.

    Args:
        begin: the statement that begins a transaction, because sqlite3 by itself begins them too late for a writer;
            None for an engine that only reads, one statement at a time.
    """

    def connect() -> sqlite3.Connection:
        # The timeout covers other processes that write to a shared file at the same moment.
        connection = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    engine = sa.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_WAIT_S,
        hide_parameters=True,
    )
    if begin is not None:
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Sets the journal mode, which a file keeps.

    The first time needs the file alone. SQLite's timeout does not hold where two connections change the mode at once:
    one of them fails at once, and has to try again.
    """
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _postgres(url: str) -> sa.Engine:
    """An engine for a server. psycopg reads the URL itself, so that it may be anything that libpq takes."""
    try:
        import psycopg
    except ImportError as error:
        raise JudgeError(
            "a postgresql:// ledger needs psycopg", where=ENVIRONMENT, remedy="pip install 'fairlead[postgres]'"
        ) from error
    return sa.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(url), pool_pre_ping=True, hide_parameters=True
    )


def _file_error(error: Exception, path: Path) -> JudgeError:
    cause = getattr(error, "orig", None) or error
    name = getattr(cause, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        remedy = "free some space and run the same command again; replies that were stored are kept"
    elif name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        remedy = f"move the file away, or set {ENVIRONMENT} to another one"
    else:
        remedy = "check the file and its folder, and that the disk has space"
    return JudgeError(f"the ledger cannot be used: {cause}", where=str(path), remedy=remedy)


def _server_error(error: Exception) -> JudgeError:
    """An error of the server's, without its text: that may hold the URL, and so the password."""
    name = type(getattr(error, "orig", None) or error).__name__
    return JudgeError(
        f"the ledger's server cannot be used: {name}",
        where=ENVIRONMENT,
        remedy="check the URL, the server and the password",
    )
