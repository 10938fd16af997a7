"""A hundred thousand preference pairs through `fairlead data check`: seconds, memory, and whether faults are found.

    python -m benchmarks.preferences [--pairs 100000] [--words 150]

The texts are drawn from a vocabulary with Zipf's frequencies, prompts of a quarter of `words`, answers of `words` on
average; every hundredth pair nearly repeats another, every thousandth holds a secret. Exit status 1 beyond 60 s, 2 GiB,
or a planted fault that is not found.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import OUT
from fairlead.files import write_json

FIGURES = OUT / "preferences.json"
SECONDS, GIBIBYTES = 60.0, 2.0
CHECK = "import sys; from fairlead.cli.data import app; app(['check', sys.argv[1], '--json'])"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=150, help="mean length of an answer")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows(arguments.pairs, arguments.words))
        size = path.stat().st_size / 2**20
        started = time.monotonic()
        process = subprocess.run([sys.executable, "-c", CHECK, str(path)], stdout=subprocess.PIPE, check=False)
        seconds = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    by_name = {finding["check"]: finding for finding in json.loads(process.stdout)["findings"]}
    near, secrets = (by_name[name]["figures"]["pairs"] for name in ("near_duplicates", "secrets"))
    planted_near, planted_secrets = arguments.pairs // 100, arguments.pairs // 1000
    write_json(
        FIGURES,
        {
            "pairs": arguments.pairs,
            "mebibytes": size,
            "seconds": seconds,
            "gibibytes_at_most": used,
            "near_duplicates": {"planted": planted_near, "found": near},
            "secrets": {"planted": planted_secrets, "found": secrets},
            "findings": {
                name: {"status": finding["status"], "figures": finding["figures"]} for name, finding in by_name.items()
            },
        },
    )
    print(f"{arguments.pairs} pairs, {size:.0f} MiB: {seconds:.1f} s, {used:.2f} GiB at most")
    print(f"near duplicates planted {planted_near}, found {near}; secrets planted {planted_secrets}, found {secrets}")
    for name, finding in by_name.items():
        print(f"  {name:18} {finding['status']:5} {finding['figures']}")
    met = seconds <= SECONDS and used <= GIBIBYTES and near == planted_near and secrets == planted_secrets
    return 0 if met else 1


def rows(count: int, words: int) -> Iterator[dict[str, Any]]:
    generator = np.random.default_rng(0)
    vocabulary = np.array([f"{'bcdfghklmnprstvwz'[n % 17]}{'aeiou'[n % 5]}{n:x}" for n in range(20_000)])
    weights = 1 / np.arange(10, len(vocabulary) + 10)
    cumulative = np.cumsum(weights / weights.sum())

    def text(length: int) -> list[str]:
        return list(vocabulary[np.searchsorted(cumulative, generator.random(length))])

    def sentence(parts: list[str]) -> str:
        return " ".join(parts).capitalize() + "."

    previous: list[list[str]] = []
    for number in range(count):
        lengths = [words // 4, *generator.integers(words // 2, words * 3 // 2, 2)]
        parts = [text(int(length)) for length in lengths]
        if number % 100 == 99:
            parts = [list(part) for part in previous]
            parts[0][0] = f"changed{number}"
        previous = parts
        prompt, chosen, rejected = map(sentence, parts)
        if number % 1000 == 500:
            rejected += " AKIAABCDEFGHIJKLMNOP."
        yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


if __name__ == "__main__":
    sys.exit(main())
