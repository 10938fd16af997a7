"""What `fairlead judge ledger` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from rich.table import Table

from fairlead.cli.common import out, print_json, print_line
from fairlead.llm.store.reply_store import StoredReply, Totals


def show_totals(totals: Sequence[Totals], *, as_json: bool) -> None:
    """Replies, tokens and cost of every model and purpose."""
    if as_json:
        print_json([asdict(row) for row in totals])
        return
    table = Table("model", "endpoint", "asked for", "replies", "read", "tokens in", "tokens out", "cost", "mean s")
    for row in totals:
        counts = (row.replies, row.read, row.input_tokens, row.output_tokens)
        cells = ["—" if count is None else f"{count:,}" for count in counts]
        cost = "—" if row.cost is None else f"{row.cost:.4g}"
        table.add_row(row.model, row.endpoint, _ASKED_FOR[row.purpose], *cells, cost, f"{row.latency:.2f}")
    out.print(table)


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
