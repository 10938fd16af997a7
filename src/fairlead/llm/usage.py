"""What the replies took that were read, whoever asked for them first."""

from __future__ import annotations

from fairlead.documents.pairs import ReplyUsage
from fairlead.llm.store.reply_store import StoredReply


class UsageCounter:
    """Counts every reply once, whether it came from the store or from the model."""

    def __init__(self) -> None:
        self._replies: dict[str, ReplyUsage] = {}

    def add(self, reply: StoredReply) -> None:
        self._replies[reply.key] = ReplyUsage(
            replies=1, input_tokens=reply.input_tokens, output_tokens=reply.output_tokens, cost=reply.cost
        )

    @property
    def total(self) -> ReplyUsage:
        return ReplyUsage.sum(self._replies.values())
