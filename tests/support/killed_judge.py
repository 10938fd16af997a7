"""Judgements in a process of its own, which a test kills: python -m tests.support.killed_judge URL LEDGER COUNT."""

from __future__ import annotations

import sys

from fairlead.llm.store.reply_store import ReplyStore
from tests.support.judging import openai_judge, pairs


def main() -> None:
    url, where, count = sys.argv[1:]
    with ReplyStore(where) as ledger:
        print("ready", flush=True)
        for verdict in openai_judge(url, ledger, concurrency=16).compare(pairs(int(count))):
            print(verdict.state, flush=True)


if __name__ == "__main__":
    main()
