"""Coverage of every interval, error rates of every test, and the time they take; writes out/statistics.json.

Run: python -m benchmarks.statistics [--times 4000]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import special, stats

from benchmarks import OUT
from fairlead.files import write_json
from fairlead.records import Interval
from fairlead.statistics.bradley_terry import bradley_terry
from fairlead.statistics.intervals import mean_interval, paired_difference
from fairlead.statistics.kappa import cohens_kappa
from fairlead.statistics.tests import permutation_test
from fairlead.statistics.win_rate import length_adjusted_win_rate, win_rate

FIGURES = OUT / "statistics.json"
Draw = Callable[[np.random.Generator], tuple[Interval, float]]


def verdicts(rate: float, ties: float, n: int) -> Draw:
    chances = [1 - rate - ties / 2, ties, rate - ties / 2]
    return lambda rng: (win_rate(rng.choice([0, 0.5, 1], n, p=chances)), rate)


def probabilities(a: float, b: float, n: int) -> Draw:
    return lambda rng: (win_rate(rng.beta(a, b, n)), a / (a + b))


def scores(n: int) -> Draw:
    return lambda rng: (paired_difference(rng.normal(7, 2, n), rng.normal(6, 2, n)), 1.0)


def clustered_scores(groups: int, correlation: float) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[Interval, float]:
        clusters = np.repeat(np.arange(groups), rng.integers(1, 10, groups))
        shared = math.sqrt(correlation) * rng.normal(size=groups)[clusters]
        return mean_interval(shared + math.sqrt(1 - correlation) * rng.normal(size=len(clusters)), clusters), 0.0

    return draw


def clustered_verdicts(groups: int, correlation: float, rate: float) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[Interval, float]:
        clusters = np.repeat(np.arange(groups), rng.integers(1, 6, groups))
        latent = math.sqrt(correlation) * rng.normal(size=groups)[clusters]
        latent = latent + math.sqrt(1 - correlation) * rng.normal(size=len(clusters))
        return win_rate((latent < stats.norm.ppf(rate)).astype(float), clusters), rate

    return draw


def kappa(agree: float, n: int) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[Interval, float]:
        first = rng.integers(0, 2, n)
        second = np.where(rng.random(n) < agree, first, 1 - first)
        return cohens_kappa(first.tolist(), second.tolist()), 2 * agree - 1

    return draw


def length_adjusted(quality: float, n: int) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[Interval, float]:
        difference = rng.normal(0.5, 1, n)
        x = np.tanh(difference / difference.std(ddof=1))
        outcomes = (rng.random(n) < special.expit(quality + x)).astype(float)
        rate = length_adjusted_win_rate(outcomes, difference, np.zeros(n), rng, draws=1000)
        return rate, float(special.expit(quality))

    return draw


def ranked(n: int) -> Draw:
    first, second = ["dpo", "sft", "dpo"] * n, ["sft", "base", "base"] * n
    clusters = np.repeat(np.arange(n), 3)

    def draw(rng: np.random.Generator) -> tuple[Interval, float]:
        dpo, sft, base = (rng.gumbel(size=(n, 3)) + np.array([1.0, 0.6, 0.0])).T
        outcomes = np.stack([dpo > sft, sft > base, dpo > base], axis=1).ravel().astype(float)
        return bradley_terry(first, second, outcomes, "base", clusters)["dpo"], 1.0

    return draw


def cases() -> Iterator[tuple[str, Draw]]:
    """(name, draw) of every coverage figure."""
    for n in (30, 200):
        for rate, ties in ((0.5, 0.0), (0.62, 0.0), (0.62, 0.3), (0.8, 0.3), (0.9, 0.0), (0.95, 0.0), (0.5, 0.8)):
            yield f"win_rate: {rate:.0%} with {ties:.0%} ties, n={n}", verdicts(rate, ties, n)
        for a, b in ((0.5, 0.5), (0.2, 1.0), (1.0, 1.0)):
            yield f"win_rate: probabilities Beta({a}, {b}), n={n}", probabilities(a, b, n)
        yield f"paired_difference: scores, n={n}", scores(n)
        for agree in (0.6, 0.8, 0.95):
            yield f"cohens_kappa: κ={2 * agree - 1:.1f}, n={n}", kappa(agree, n)
        for quality in (0.0, 0.5, 1.5):
            yield f"length_adjusted_win_rate: {special.expit(quality):.0%}, n={n}", length_adjusted(quality, n)
        yield f"bradley_terry: three models, n={n} prompts", ranked(n)
    for groups in (8, 30):
        for correlation in (0.0, 0.3, 0.8):
            name = f"{groups} clusters of 1 to 9, correlation {correlation}"
            yield f"mean_interval: {name}", clustered_scores(groups, correlation)
    for rate, correlation in ((0.5, 0.0), (0.62, 0.3), (0.85, 0.3)):
        name = f"{rate:.0%}, 25 clusters of 1 to 5, correlation {correlation}"
        yield f"win_rate: {name}", clustered_verdicts(25, correlation, rate)


def coverage(draw: Draw, times: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    hits = undefined = 0
    total_width = 0.0
    for _ in range(times):
        interval, truth = draw(rng)
        if interval.low is None or interval.high is None:
            undefined += 1
            continue
        hits += interval.low - 1e-9 <= truth <= interval.high + 1e-9
        total_width += interval.high - interval.low
    defined = times - undefined
    return {"coverage": hits / defined, "width": total_width / defined, "undefined": undefined, "times": times}


def error_rates(times: int) -> dict[str, float]:
    """Share of rejections under the null; 5 % is nominal, 2.5 % for one end of an interval."""
    rng = np.random.default_rng(1)
    rates: dict[str, float] = {}
    for n in (12, 30, 200):
        samples = [rng.laplace(size=n) for _ in range(times)]
        rejected = sum((permutation_test(sample, rng, draws=500).p or 1) <= 0.05 for sample in samples)
        rates[f"permutation_test: n={n}"] = rejected / times
        not_worse = sum((mean_interval(sample - 0.5).low or 0) > -0.5 for sample in samples)
        rates[f"lower end of mean_interval above the truth: n={n}"] = not_worse / times
    return rates


def seconds() -> dict[str, float]:
    """Seconds of one call, on 60,000 verdicts where its name does not say how many; 10,000 draws unless it says."""
    rng = np.random.default_rng(2)
    three, many = rng.choice([0, 0.5, 1], 60_000), rng.beta(0.3, 0.5, 60_000)
    length = rng.integers(10, 3000, (2, 60_000))
    calls: dict[str, Callable[[], Any]] = {
        "permutation_test of 2,000 verdicts": lambda: permutation_test(three[:2_000] - 0.5, rng),
        "permutation_test of 2,000 probabilities": lambda: permutation_test(many[:2_000] - 0.5, rng),
        "win_rate of verdicts": lambda: win_rate(three),
        "win_rate of probabilities": lambda: win_rate(many),
        "length_adjusted_win_rate (2,000 draws)": lambda: length_adjusted_win_rate(three, length[0], length[1], rng),
    }
    taken = {}
    for name, call in calls.items():
        start = time.perf_counter()
        call()
        taken[name] = round(time.perf_counter() - start, 3)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=4000, help="simulated data sets per figure")
    times = parser.parse_args().times
    figures: dict[str, Any] = {"coverage": {}}
    print(f"coverage of a nominal 95 % interval, {times} data sets each (± {1.96 * math.sqrt(0.0475 / times):.1%})")
    for name, draw in cases():
        figure = figures["coverage"][name] = coverage(draw, times)
        undefined = f"  ({figure['undefined']} undefined)" if figure["undefined"] else ""
        print(f"  {name:<62}{figure['coverage']:>7.1%}   width {figure['width']:.3f}{undefined}")
    figures["rejected under the null"] = error_rates(2 * times)
    print("rejected under the null (nominal 5 %, one end of an interval 2.5 %)")
    for name, share in figures["rejected under the null"].items():
        print(f"  {name:<62}{share:>7.1%}")
    figures["seconds"] = seconds()
    print("seconds for 60,000 values, 10,000 draws")
    for name, taken in figures["seconds"].items():
        print(f"  {name:<62}{taken:>7.2f}")
    write_json(FIGURES, figures)
    print(f"written: {FIGURES}")


if __name__ == "__main__":
    main()
