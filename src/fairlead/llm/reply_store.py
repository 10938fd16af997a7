"""The ledger: every reply of a judge, stored before anybody reads it, so that nothing is paid for twice.

A reply is found by its key: the hash of the whole request (endpoint, model, parameters, template, messages). The same
question to the same judge with the same template is therefore never asked again, in any stage, run or project that
shares the ledger. SQLite in WAL mode with full synchronisation: a committed reply survives a kill and a power cut, and
a call that is cut off leaves no row. Replies that arrive together are committed together.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fairlead.errors import JudgeError
from fairlead.files import disk_errors, dump_json

DEFAULT_PATH = Path(".fairlead") / "ledger.sqlite"
ENVIRONMENT = "FAIRLEAD_LEDGER"

_COLUMNS = (
    "key", "question", "endpoint", "model", "template", "request", "text", "finish", "refusal", "logprobs",
    "input_tokens", "output_tokens", "cost", "latency", "at", "verdict",
)  # fmt: skip
_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    question TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    template TEXT NOT NULL,
    request TEXT NOT NULL,
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    refusal TEXT,
    logprobs TEXT,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cost DOUBLE PRECISION,
    latency DOUBLE PRECISION NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    verdict TEXT
)
"""
_ADD_VERDICT = "ALTER TABLE replies ADD COLUMN verdict TEXT"  # to ledgers from before the column


@dataclass(frozen=True, slots=True)
class StoredReply:
    """One reply of a judge, as it came.

    Attributes:
        key: hash of the whole request.
        question: the comparison or answer it is about, with the order shown (ab, ba) and whether it is a correction.
        request: the request's body as canonical JSON.
        text: the reply's raw text.
        finish: why the judge stopped, in the endpoint's word (stop, length, content_filter, …).
        refusal: the endpoint's own statement that the judge declined, None where it gave none.
        logprobs: (token, [(alternative, log-probability), …]) of every token, as JSON; None where not asked for.
        cost: in the currency of the configured prices, None where there are none.
        latency: seconds.
        at: seconds since the epoch.
        verdict: what was read from the text when it came: A, B or tie in the order shown, or a number; None where
            nothing could be read.
    """

    key: str
    question: str
    endpoint: str
    model: str
    template: str
    request: str
    text: str
    finish: str
    refusal: str | None = None
    logprobs: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    latency: float = 0.0
    at: float = 0.0
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """What one model has been asked so far; None where no reply told its tokens or had a price.

    Attributes:
        read: replies from which a verdict or a score was read.
        counted: replies that told their tokens, and how many characters their requests have.
        latency: mean seconds of a reply.
    """

    model: str
    endpoint: str
    replies: int
    read: int
    input_tokens: int | None
    output_tokens: int | None
    counted: int
    counted_chars: int
    cost: float | None
    latency: float


class ReplyStore:
    """Stores and finds replies. Safe to use from several threads and processes at once.

    Args:
        where: an SQLite file, or a postgresql:// URL (needs the extra `postgres`).

    Raises:
        JudgeError: if the file is no ledger, or the database cannot be reached.
    """

    def __init__(self, where: Path | str) -> None:
        self._database: _SQLite | _Postgres
        if str(where).startswith(("postgres://", "postgresql://")):
            self._database = _Postgres(str(where))
        else:
            self._database = _SQLite(Path(where))

    @classmethod
    def of_project(cls, folder: Path) -> ReplyStore:
        """The ledger named by FAIRLEAD_LEDGER (a file or a URL, to share one among projects), else the project's."""
        shared = os.environ.get(ENVIRONMENT)
        return cls(shared or Path(folder) / DEFAULT_PATH)

    def find(self, key: str) -> StoredReply | None:
        """The stored reply to a request."""
        rows = self._database.read(f"SELECT {', '.join(_COLUMNS)} FROM replies WHERE key = ?", (key,))
        return StoredReply(*rows[0]) if rows else None

    def replies(self) -> Iterator[StoredReply]:
        """All replies, the oldest first."""
        for row in self._database.read(f"SELECT {', '.join(_COLUMNS)} FROM replies ORDER BY at, key"):
            yield StoredReply(*row)

    def about(self, start: str) -> list[StoredReply]:
        """The replies whose key or question begins so, the oldest first."""
        like = start.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        rows = self._database.read(
            f"SELECT {', '.join(_COLUMNS)} FROM replies WHERE key LIKE ? ESCAPE '\\' OR question LIKE ? ESCAPE '\\'"
            " ORDER BY at, key",
            (like, like),
        )
        return [StoredReply(*row) for row in rows]

    def totals(self) -> list[Totals]:
        """Replies, tokens and cost of every model."""
        rows = self._database.read(
            "SELECT model, endpoint, COUNT(*), COUNT(verdict), SUM(input_tokens), SUM(output_tokens),"
            " COUNT(input_tokens), SUM(CASE WHEN input_tokens IS NULL THEN 0 ELSE LENGTH(request) END),"
            " SUM(cost), AVG(latency) FROM replies GROUP BY model, endpoint ORDER BY model, endpoint"
        )
        return [Totals(*row) for row in rows]

    def store_all(self, replies: Sequence[StoredReply]) -> None:
        """Commits replies. One that is there already stays: the first answer to a question is the answer."""
        marks = ", ".join("?" * len(_COLUMNS))
        sql = f"INSERT INTO replies ({', '.join(_COLUMNS)}) VALUES ({marks}) ON CONFLICT (key) DO NOTHING"
        self._database.write(sql, [tuple(getattr(reply, column) for column in _COLUMNS) for reply in replies])

    def note_readings(self, readings: Sequence[tuple[str, str | None]]) -> None:
        """Stores what was read from replies, by key."""
        self._database.write(
            "UPDATE replies SET verdict = ? WHERE key = ?", [(reading, key) for key, reading in readings]
        )

    def forget(self, keys: Sequence[str]) -> None:
        """Deletes replies, so that their questions are asked, and paid for, again."""
        self._database.write("DELETE FROM replies WHERE key = ?", [(key,) for key in keys])

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Committer:
    """Writes to the store from coroutines of one event loop; what arrives together shares one commit."""

    def __init__(self, store: ReplyStore) -> None:
        self._store = store
        self._waiting: list[tuple[StoredReply | _Reading, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def store(self, reply: StoredReply) -> None:
        """Commits a reply; returns when it is on disk."""
        await self._write(reply)

    async def note_reading(self, key: str, reading: str | None) -> None:
        """Commits what was read from a reply."""
        await self._write(_Reading(key, reading))

    async def _write(self, item: StoredReply | _Reading) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((item, done))
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write_waiting())
        await done

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await asyncio.to_thread(self._commit, [item for item, _ in batch])
            except Exception as caught:  # every caller of this batch must hear of it
                error = caught
            for _, done in batch:
                if not done.done():
                    done.set_result(None) if error is None else done.set_exception(error)

    def _commit(self, items: Sequence[StoredReply | _Reading]) -> None:
        replies = [item for item in items if isinstance(item, StoredReply)]
        readings = [(item.key, item.text) for item in items if isinstance(item, _Reading)]
        if replies:
            self._store.store_all(replies)
        if readings:
            self._store.note_readings(readings)


@dataclass(frozen=True, slots=True)
class _Reading:
    key: str
    text: str | None


def request_json(endpoint: str, template: str, body: Any) -> str:
    """The whole request as canonical JSON; its hash is the key."""
    return dump_json({"endpoint": endpoint, "template": template, "body": body})


def logprobs_json(tokens: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> str:
    return json.dumps(tokens, ensure_ascii=False)


def now() -> float:
    return time.time()


class _SQLite:
    """One connection that writes, one that reads: WAL lets them work at the same time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock, self._read_lock = threading.Lock(), threading.Lock()
        with disk_errors(path), _sqlite_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = FULL")
            with self._writer:
                self._writer.execute(_SCHEMA)
                if "verdict" not in {row[1] for row in self._writer.execute("PRAGMA table_info(replies)")}:
                    self._writer.execute(_ADD_VERDICT)
            self._reader = self._connect()

    def _connect(self) -> sqlite3.Connection:
        # The timeout covers other processes that write to a shared ledger at the same moment.
        return sqlite3.connect(self._path, timeout=60, check_same_thread=False)

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._read_lock, _sqlite_errors(self._path):
            return self._reader.execute(sql, values).fetchall()

    def write(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._lock, _sqlite_errors(self._path), self._writer:
            self._writer.executemany(sql, rows)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class _sqlite_errors:  # noqa: N801, a context manager used like a function
    """Turns a database error into one line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, sqlite3.Error):
            return
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_FULL":
            remedy = "free some space and run the same command again; replies that were stored are kept"
        elif name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            remedy = f"move the file away, or set {ENVIRONMENT} to another one"
        else:
            remedy = "check the file and its folder, and that the disk has space"
        raise JudgeError(f"the ledger cannot be used: {error}", where=str(self._path), remedy=remedy) from error


class _Postgres:
    """The same tables on a server. The URL may hold a password, so no error shows it."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg  # type: ignore[import-not-found,unused-ignore]
        except ImportError as error:
            raise JudgeError(
                "a postgresql:// ledger needs psycopg", where=ENVIRONMENT, remedy="pip install 'fairlead[postgres]'"
            ) from error
        self._psycopg: Any = psycopg
        self._lock = threading.Lock()
        try:
            self._connection = psycopg.connect(url, autocommit=True)
            with self._connection.transaction():
                # Two processes that open a new ledger at once would both try to make the table.
                self._connection.execute("SELECT pg_advisory_xact_lock(hashtext('fairlead replies'))")
                self._connection.execute(_SCHEMA)
                self._connection.execute(_ADD_VERDICT.replace("COLUMN", "COLUMN IF NOT EXISTS"))
        except psycopg.Error as error:
            raise self._error(error) from None

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                with self._connection.transaction():
                    return list(self._connection.execute(sql.replace("?", "%s"), values).fetchall())
            except self._psycopg.Error as error:
                raise self._error(error) from None

    def write(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._lock:
            try:
                with self._connection.transaction(), self._connection.cursor() as cursor:
                    cursor.executemany(sql.replace("?", "%s"), rows)
            except self._psycopg.Error as error:
                raise self._error(error) from None

    @staticmethod
    def _error(error: Exception) -> JudgeError:
        return JudgeError(
            f"the ledger's server cannot be used: {type(error).__name__}",
            where=ENVIRONMENT,
            remedy="check the URL, the server and the password",
        )

    def close(self) -> None:
        self._connection.close()
