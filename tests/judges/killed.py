"""A run of judgements in a process of its own, which a test kills: python -m tests.judges.killed URL LEDGER COUNT."""

from __future__ import annotations

import sys

from tests.judges.conftest import openai_judge, pairs

from fairlead.judges.ledger import Ledger


def main() -> None:
    url, where, count = sys.argv[1:]
    with Ledger(where) as ledger:
        print("ready", flush=True)
        for verdict in openai_judge(url, ledger, concurrency=16).compare(pairs(int(count))):
            print(verdict.state, flush=True)


if __name__ == "__main__":
    main()
