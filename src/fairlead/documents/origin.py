"""`origin.json`, where a model that was not trained here comes from."""

from __future__ import annotations

from typing import Literal

from fairlead.documents.base import Document


class Origin(Document):
    """A model made elsewhere, as it was brought.

    Attributes:
        source: the folder or hub id, as the config names it.
        commit: of the hub's repository; None for a folder.
        form: what was brought.
        base: the base model that an adapter's config names; None for full weights, whose files name none.
        files: SHA-256 of every file that was taken over, by name, as it was at the source.
        notes: what was assumed, one sentence each.
    """

    source: str
    commit: str | None
    form: Literal["adapter", "full weights"]
    base: str | None
    files: dict[str, str]
    notes: tuple[str, ...]

    @property
    def address(self) -> str:
        """The source with its commit, for people."""
        return self.source if self.commit is None else f"{self.source} at {self.commit[:12]}"
