"""The key of a request in the reply store: the hash of all that decides its reply."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.files import dump_json
from fairlead.llm.client import ChatClient, ChatRequest
from fairlead.llm.store.reply_store import ReplyStore, StoredReply


@dataclass(frozen=True)
class PreparedRequest:
    """A request as a client sends it.

    Attributes:
        body: the client's form of it.
        json: endpoint, template and body as canonical JSON.
        key: the hash of that.
    """

    request: ChatRequest
    body: Mapping[str, Any]
    json: str
    key: str


def prepare(client: ChatClient, request: ChatRequest, without: frozenset[str] = frozenset()) -> PreparedRequest:
    """The request as the client sends it, without these parts of its body."""
    body = {name: value for name, value in client.body(request).items() if name not in without}
    text = dump_json({"endpoint": client.endpoint, "template": request.template, "body": body})
    return PreparedRequest(request, body, text, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())


def find_stored(client: ChatClient, store: ReplyStore | None, request: ChatRequest) -> StoredReply | None:
    """The stored reply to a request, also where its endpoint answered it without the optional parts of the body."""
    if store is None:
        return None
    prepared = prepare(client, request)
    stored = store.find(prepared.key)
    if stored is None and client.optional & prepared.body.keys():
        stored = store.find(prepare(client, request, client.optional).key)
    return stored
