"""What `fairlead judge ledger` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from fairlead.cli.common import count_text, print_json, print_line, show_table, value_text
from fairlead.llm.store.reply_store import StoredReply, Totals


def show_totals(totals: Sequence[Totals], *, as_json: bool) -> None:
    """Replies, tokens and cost of every model and purpose."""
    if as_json:
        print_json([asdict(row) for row in totals])
        return
    if not totals:
        print_line("no model was asked yet")
    endpoints = list(dict.fromkeys((row.model, row.endpoint) for row in totals))
    names = {place: _short(place, endpoints) for place in endpoints}
    show_table(
        ("model", "asked for", "replies", "read", "tokens in", "out", "cost", "mean s"),
        [
            (
                names[row.model, row.endpoint],
                _ASKED_FOR[row.purpose],
                *map(count_text, (row.replies, row.read, row.input_tokens, row.output_tokens)),
                value_text(row.cost, ".4g"),
                value_text(row.latency, ".2f"),
            )
            for row in totals
        ],
        words=("model",),
    )
    for (model, endpoint), name in names.items():
        print_line(f"{name}: {endpoint}" if name == model else f"{name}: {model} at {endpoint}")


def _short(place: tuple[str, str], endpoints: Sequence[tuple[str, str]]) -> str:
    """The last part of the model's name, numbered where several models or endpoints share it."""
    alike = [other for other in endpoints if _last_part(other[0]) == _last_part(place[0])]
    return _last_part(place[0]) + (f" ({alike.index(place) + 1})" if len(alike) > 1 else "")


def _last_part(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1] or model


_ASKED_FOR = {"pairwise": "verdicts", "score": "scores", "plain": "answers"}


def show_replies(replies: Sequence[StoredReply], *, as_json: bool) -> None:
    """Replies as they came, each with its request's identity and what it took."""
    if as_json:
        print_json([asdict(reply) for reply in replies])
        return
    for reply in replies:
        at = datetime.fromtimestamp(reply.at, UTC).isoformat(timespec="seconds")
        about = " ".join(filter(None, [reply.subject, reply.variant, "corrected" if reply.attempt > 1 else ""]))
        read = [] if reply.purpose == "plain" else [f"read: {reply.verdict or 'nothing'}"]
        tokens = f"tokens {_count(reply.input_tokens)} in, {_count(reply.output_tokens)} out"
        cost = [] if reply.cost is None else [f"cost {reply.cost:.4g}"]
        print_line(f"{reply.key[:12]}  {about}  {reply.model}  {reply.template}  {at}")
        print_line("  " + ", ".join([*read, f"finish {reply.finish}", tokens, *cost, f"{reply.latency:.2f} s"]))
        print_line("  " + reply.text.replace("\n", "\n  "))


def _count(tokens: int | None) -> str:
    return "—" if tokens is None else f"{tokens:,}"
