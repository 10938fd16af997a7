"""A judge's win rate corrected by a few human labels: how often the interval covers the truth, and how wide it is.

Simulated: 1,000 comparisons, of which the candidate wins 55 % as people see it. A judge names the same winner in 60 to
95 %, but for its bias, which in three of ten comparisons decides alone: for the longer answer (the candidate's in four
of five), for the answer that stands first (the candidate's, if only one order is asked), or for the candidate because
it is of the judge's family. Then `pandalm_human.jsonl` beside the checkout: 100 labels drawn of 999, again and again.

Run: make bench-human, or python -m benchmarks.human [--times 2000]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import DATA, OUT
from fairlead.files import write_json
from fairlead.records import Interval
from fairlead.statistics.anchored import Anchored, anchored_mean, expected_half_width

FIGURES = OUT / "human.json"
PANDALM = DATA / "pandalm_human.jsonl"
COMPARISONS, RATE = 1000, 0.55
AGREEMENT = (0.6, 0.7, 0.8, 0.9, 0.95)
LABELS = (25, 50, 100, 200, 400)
BIASED = 0.3  # share of comparisons that the bias decides
FOR_CANDIDATE = {"length": 0.8, "place": 1.0, "family": 1.0}  # share of those that it decides for the candidate


@dataclass
class Count:
    """How often each interval covered, and their mean widths."""

    covered: dict[str, int]
    width: dict[str, float]
    times: int = 0

    def add(self, result: Anchored, truth: float) -> None:
        self.times += 1
        for name, interval in (("anchored", result.anchored), ("labels", result.labels), ("judge", result.judge)):
            low, high = ends(interval)
            self.covered[name] += low <= truth <= high
            self.width[name] += high - low


def ends(interval: Interval) -> tuple[float, float]:
    """An interval that cannot be given excludes nothing."""
    if interval.low is None or interval.high is None:
        return 0.0, 1.0
    return interval.low, interval.high


def counted(results: Iterator[Anchored], truth: float) -> Count:
    count = Count(
        dict.fromkeys(("anchored", "labels", "judge"), 0), dict.fromkeys(("anchored", "labels", "judge"), 0.0)
    )
    for result in results:
        count.add(result, truth)
    return count


def simulated(bias: str, agreement: float, labels: int, times: int, seed: int) -> Iterator[Anchored]:
    rng = np.random.default_rng(seed)
    for _ in range(times):
        people = (rng.random(COMPARISONS) < RATE).astype(float)
        judged = np.where(rng.random(COMPARISONS) < agreement, people, 1 - people)
        favoured = (rng.random(COMPARISONS) < FOR_CANDIDATE[bias]).astype(float)
        judged = np.where(rng.random(COMPARISONS) < BIASED, favoured, judged)
        at = rng.choice(COMPARISONS, labels, replace=False)
        yield anchored_mean(judged, at, people[at], bounds=(0, 1))


def pandalm(times: int, labels: int = 100) -> Count:
    """Rows without a readable verdict of the judge count as its ties; a label is the mean of three people's."""
    rows = [json.loads(line) for line in PANDALM.read_text(encoding="utf-8").splitlines()]
    outcome = {"0": 0.5, "1": 1.0, "2": 0.0}
    judged = np.array([outcome.get(str(row["gpt35"]).strip(), 0.5) for row in rows])
    people = np.array([np.mean([outcome[str(verdict)] for verdict in row["annotators"]]) for row in rows])
    rng = np.random.default_rng(0)

    def draws() -> Iterator[Anchored]:
        for _ in range(times):
            at = rng.choice(len(rows), labels, replace=False)
            yield anchored_mean(judged, at, people[at], bounds=(0, 1))

    return counted(draws(), float(people.mean()))


def row(name: str, count: Count) -> dict[str, Any]:
    return {
        "case": name,
        "times": count.times,
        **{f"{kind} covers": count.covered[kind] / count.times for kind in ("anchored", "labels", "judge")},
        "width to labels alone": count.width["anchored"] / count.width["labels"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2000)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print("| case | anchored covers | labels alone cover | judge alone covers | width, anchored / labels |")
    print("|---|---|---|---|---|")

    def show(name: str, count: Count) -> None:
        made = row(name, count)
        rows.append(made)
        cells = [f"{made[f'{kind} covers']:.1%}" for kind in ("anchored", "labels", "judge")]
        print(f"| {name} | " + " | ".join(cells) + f" | {made['width to labels alone']:.2f} |", flush=True)

    for seed, bias in enumerate(FOR_CANDIDATE):
        for agreement in AGREEMENT:
            for labels in LABELS:
                name = f"{bias}, agreement {agreement:.0%}, {labels} labels"
                show(name, counted(simulated(bias, agreement, labels, options.times, seed), RATE))
    if PANDALM.is_file():
        show("PandaLM, 100 of 999 labels", pandalm(options.times))
    else:
        print(f"PandaLM is left out: {PANDALM.name} does not lie beside the checkout")
    print("\nPlanned half width of a win rate, 1,000 comparisons (sd 0.5), by correlation of judge and people:")
    for correlation in (0.0, 0.5, 0.7, 0.9):
        planned = [f"{n}: {expected_half_width(n, COMPARISONS, 0.5, correlation):.3f}" for n in LABELS]
        print(f"  r {correlation:.1f}  " + "  ".join(planned))
    write_json(FIGURES, {"rows": rows})


if __name__ == "__main__":
    main()
