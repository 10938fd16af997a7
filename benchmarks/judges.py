"""Ten thousand judgements by an endpoint that fails in every known way: speed, what was survived, what was paid twice;
writes out/judges.json.

    python -m benchmarks.judges [--judgements 10000] [--rate 60]

The server runs in a process of its own, speaks OpenAI's chat API over real HTTP, and refuses more than `rate` requests
a second. A fifth of the requests meet a fault. The time that its own limit allows is that of all requests it took on at
that rate, retries after faults included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import OUT, REPO
from fairlead.config.judges import OpenAISettings
from fairlead.files import write_json
from fairlead.judges.build import build_judge
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Answer, Prompt, ScoreState

FIGURES = OUT / "judges.json"
FAULTS = {
    "limit": 0.02, "limit_wait": 0.02, "error_500": 0.03, "overloaded": 0.02, "hang": 0.002, "reset": 0.02,
    "truncated": 0.02, "slow": 0.002, "empty": 0.011, "cut": 0.011, "prose": 0.011, "wrong_json": 0.011,
    "refusal": 0.011, "foreign": 0.011,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgements", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second that the server takes")
    arguments = parser.parse_args()
    server_settings = {
        "faults": FAULTS, "rate": arguments.rate, "latency": 0.2, "tail": 30.0, "retry_after": 0.5, "hang": 120.0
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.support.misbehaving", json.dumps(server_settings)]
    server = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        with tempfile.TemporaryDirectory() as folder, ReplyStore(Path(folder) / "ledger.sqlite") as ledger:
            states, wrong, seconds = judge(url, arguments.judgements, ledger)
            stored = sum(row.replies for row in ledger.totals())
        with urllib.request.urlopen(f"{url}/stats") as reply:
            stats = json.load(reply)
    finally:
        server.terminate()
        server.wait()
    return report(arguments, states, wrong, seconds, stored, stats)


def judge(url: str, count: int, ledger: ReplyStore) -> tuple[Counter[ScoreState], int, float]:
    """States of all judgements, how many have a value that the server never meant, and seconds."""
    settings = OpenAISettings.model_validate(
        {
            "kind": "openai",
            "model": "m",
            "base_url": f"{url}/v1",
            "api_key_env": None,
            "timeout_s": 35,
            "max_retries": 12,
        }
    )
    answers = [Answer(Prompt.of(f"question {n}"), f"quality={1 + n % 10}") for n in range(count)]
    started = time.monotonic()
    scores = list(build_judge(settings, store=ledger, folder=Path()).score(answers))
    seconds = time.monotonic() - started
    assert [score.answer_id for score in scores] == [answer.id for answer in answers], "a judgement is lost"
    wrong = sum(score.value not in (None, 1.0 + n % 10) for n, score in enumerate(scores))
    return Counter(score.state for score in scores), wrong, seconds


def report(
    arguments: argparse.Namespace,
    states: Counter[ScoreState],
    wrong: int,
    seconds: float,
    stored: int,
    stats: dict[str, Any],
) -> int:
    refused = stats["faults"].pop("too_many", 0)
    taken_on = stats["requests"] - refused
    allowed = taken_on / arguments.rate
    injected = sum(stats["faults"].values())
    write_json(
        FIGURES,
        {
            "judgements": states.total(),
            "states": {str(state): states.get(state, 0) for state in ScoreState},
            "scored_from_a_fault": wrong,
            "faults_injected": injected,
            "faults": stats["faults"],
            "requests_taken_on": taken_on,
            "refused_by_the_limit": refused,
            "paid": stats["paid"],
            "in_the_ledger": stored,
            "paid_twice": stats["repeated"],
            "requests_per_second": taken_on / seconds,
            "rate_allowed": arguments.rate,
            "seconds": seconds,
            "seconds_of_the_limit": allowed,
        },
    )
    print(f"judgements            {states.total()}: " + ", ".join(f"{n} {state}" for state, n in states.most_common()))
    print(f"scored from a fault   {wrong}")
    print(f"faults injected       {injected} of {taken_on} requests ({injected / taken_on:.1%}): {stats['faults']}")
    print(f"refused by the limit  {refused} of {stats['requests']} requests")
    print(f"replies paid          {stats['paid']}, in the ledger {stored}, paid twice {stats['repeated']}")
    print(f"throughput            {taken_on / seconds:.1f} requests/s of the {arguments.rate:g} that the server allows")
    print(f"wall time             {seconds:.1f} s, {seconds / allowed:.2f} times the {allowed:.1f} s of the limit")
    failed = states[ScoreState.FAILED] + wrong + stats["repeated"] + abs(stats["paid"] - stored)
    return 0 if failed == 0 and seconds <= 1.3 * allowed else 1


if __name__ == "__main__":
    sys.exit(main())
