"""The reply store: every reply of a model, stored before anybody reads it, so that nothing is paid for twice.

A reply is found by its key: the hash of the whole request (endpoint, model, parameters, template, messages). The same
request with the same template is therefore never sent to the same model again, in any stage, run or project that
shares the store. A request that is under way is claimed, so that another process waits for its reply instead of paying
for a second one. A call that is cut off leaves no row. People know the store as the ledger.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from fairlead.llm.client import Purpose
from fairlead.llm.store.database import ENVIRONMENT, Database, claims, replies

DEFAULT_PATH = Path(".fairlead") / "ledger.sqlite"


@dataclass(frozen=True, slots=True)
class StoredReply:
    """One reply of a model, as it came.

    Attributes:
        key: hash of the whole request.
        subject: id of the comparison, the answer or the prompt that it is about.
        request: the request's body as canonical JSON.
        text: the reply's raw text.
        finish: why the model stopped, in the endpoint's word (stop, length, content_filter, …).
        refusal: the endpoint's own statement that the model declined, None where it gave none.
        logprobs: (token, [(alternative, log-probability), …]) of every token, as JSON; None where not asked for.
        cost: in the currency of the configured prices, None where there are none.
        latency: seconds.
        at: seconds since the epoch.
        verdict: what was read from the text: A, B or tie in the order shown, or a number; None where nothing could be
            read, and for plain requests.
        purpose, variant, attempt: of the request.
    """

    key: str
    subject: str
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
    purpose: Purpose = "plain"
    variant: str = ""
    attempt: int = 1


_FIELDS = [field.name for field in fields(StoredReply)]
_COLUMNS = [replies.c[name] for name in _FIELDS]
_FIND = sa.select(*_COLUMNS).where(replies.c.key == sa.bindparam("key"))
_OLDEST_FIRST = sa.select(*_COLUMNS).order_by(replies.c.at, replies.c.key)


@dataclass(frozen=True, slots=True)
class Totals:
    """What one model has been asked so far for one purpose; None where no reply told its tokens or had a price.

    Attributes:
        read: replies from which a verdict or a score was read; None for plain requests.
        counted: replies that told their tokens, and how many characters their requests have.
        latency: mean seconds of a reply.
    """

    model: str
    endpoint: str
    purpose: Purpose
    replies: int
    read: int | None
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
        self._database = Database(where)

    @classmethod
    def of_project(cls, folder: Path) -> ReplyStore:
        """The store named by FAIRLEAD_LEDGER (a file or a URL, to share one among projects), else the project's."""
        shared = os.environ.get(ENVIRONMENT)
        return cls(shared or Path(folder) / DEFAULT_PATH)

    def find(self, key: str) -> StoredReply | None:
        """The stored reply to a request."""
        rows = self._database.read(_FIND.params(key=key))
        return StoredReply(*rows[0]) if rows else None

    def replies(self) -> list[StoredReply]:
        """All replies, the oldest first."""
        return [StoredReply(*row) for row in self._database.read(_OLDEST_FIRST)]

    def about(self, start: str) -> list[StoredReply]:
        """The replies whose key or subject begins so, the oldest first."""
        matches = sa.or_(*(column.startswith(start, autoescape=True) for column in (replies.c.key, replies.c.subject)))
        return [StoredReply(*row) for row in self._database.read(_OLDEST_FIRST.where(matches))]

    def totals(self) -> list[Totals]:
        """Replies, tokens and cost of every model and purpose."""
        c, of = replies.c, (replies.c.model, replies.c.endpoint, replies.c.purpose)
        characters_with_count = sa.case((c.input_tokens.is_(None), 0), else_=sa.func.length(c.request))
        query = sa.select(
            *of,
            sa.func.count(),
            sa.case((c.purpose == "plain", None), else_=sa.func.count(c.verdict)),
            sa.cast(sa.func.sum(c.input_tokens), sa.BigInteger),
            sa.cast(sa.func.sum(c.output_tokens), sa.BigInteger),
            sa.func.count(c.input_tokens),
            sa.func.sum(characters_with_count),
            sa.func.sum(c.cost),
            sa.func.avg(c.latency),
        )
        return [Totals(*row) for row in self._database.read(query.group_by(*of).order_by(*of))]

    def store_all(self, items: Sequence[StoredReply]) -> set[str]:
        """Commits replies and ends the claims on them. One that is there already stays: the first reply counts.

        Returns:
            The keys of those that were there already.
        """
        rows = [dict(zip(_FIELDS, astuple(item), strict=True)) for item in sorted(items, key=lambda item: item.key)]
        keys = {item.key for item in items}
        insert = self._database.insert(replies).on_conflict_do_nothing(index_elements=["key"])

        def work(connection: sa.Connection) -> set[str]:
            inserted = set(connection.execute(insert.returning(replies.c.key), rows).scalars())
            connection.execute(sa.delete(claims).where(claims.c.key.in_(keys)))
            return keys - inserted

        return self._database.write(work)

    def note_readings(self, readings: Sequence[tuple[str, str | None]]) -> None:
        """Stores what was read from replies, by key."""
        statement = (
            sa.update(replies).where(replies.c.key == sa.bindparam("of")).values(verdict=sa.bindparam("reading"))
        )
        rows = [{"of": key, "reading": text} for key, text in sorted(readings, key=lambda reading: reading[0])]
        self._database.write(lambda connection: connection.execute(statement, rows))

    def claim(self, keys: Collection[str], owner: str, seconds: float) -> set[str]:
        """Claims the requests that nobody else is sending and that have no reply yet.

        A claim ends with its reply, when it is released, after so many seconds without renewal, or at once where its
        owner is a process of this machine that is no longer alive.

        Returns:
            Those of the keys that are claimed by this owner now.
        """
        c, now = claims.c, self._database.now()
        insert = self._database.insert(claims)
        upsert = insert.values(
            key=sa.bindparam("key"), owner=sa.bindparam("owner"), expires=now + sa.literal(seconds)
        ).on_conflict_do_update(
            index_elements=["key"],
            set_={"owner": insert.excluded.owner, "expires": insert.excluded.expires},
            where=sa.or_(c.expires < now, c.owner == insert.excluded.owner),
        )

        def work(connection: sa.Connection) -> set[str]:
            others = connection.execute(sa.select(c.owner).where(c.key.in_(keys)).distinct()).scalars()
            dead = [other for other in others if _is_dead(other)]
            if dead:
                connection.execute(sa.delete(claims).where(c.owner.in_(dead)))
            connection.execute(upsert, [{"key": key, "owner": owner} for key in sorted(keys)])
            # Only now, because a claim that was free to take may have ended with a reply a moment ago.
            replied = sa.select(replies.c.key).where(replies.c.key.in_(keys))
            connection.execute(sa.delete(claims).where(c.key.in_(replied), c.owner == owner))
            mine = sa.select(c.key).where(c.key.in_(keys), c.owner == owner)
            return set(connection.execute(mine).scalars())

        return self._database.write(work)

    def renew(self, owner: str, seconds: float) -> None:
        """Keeps all claims of an owner for so many seconds more."""
        expires = self._database.now() + sa.literal(seconds)
        renewed = sa.update(claims).where(claims.c.owner == owner).values(expires=expires)
        self._database.write(lambda connection: connection.execute(renewed))

    def release(self, owner: str, keys: Collection[str] | None = None) -> None:
        """Ends claims of an owner: those on these keys, or all."""
        released = sa.delete(claims).where(claims.c.owner == owner)
        if keys is not None:
            released = released.where(claims.c.key.in_(keys))
        self._database.write(lambda connection: connection.execute(released))

    def forget(self, keys: Sequence[str]) -> None:
        """Deletes replies, so that their requests are sent, and paid for, again."""
        self._database.write(lambda connection: connection.execute(sa.delete(replies).where(replies.c.key.in_(keys))))

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def new_owner() -> str:
    """A name for the claims of one session of this process."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


def _is_dead(owner: str) -> bool:
    """Whether an owner is a process of this machine that has ended; False if that is unknown."""
    host, _, pid = owner.rpartition("/")[0].rpartition("/")
    if os.name != "posix" or host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
