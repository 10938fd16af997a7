"""What n prompts can show, and how many prompts a difference would take: the two-sided one-sample t test.

A paired comparison is a one-sample test on the differences, so `sd` is the standard deviation of the paired
differences; for a win rate it is that of the outcomes (`win_rate_sd` before there are any). Clustered prompts are
worth fewer than they are: divide n by the design effect first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import optimize, stats

from fairlead.documents.evaluation import Plan
from fairlead.statistics.intervals import check_level

_MOST = 10**12  # prompts; beyond it the answer is that no number of prompts will do


def win_rate_sd(ties: float = 0.0) -> float:
    """Standard deviation of an outcome (1 win, ½ tie, 0 loss) where wins and losses are as likely.

    It is the largest that a share of `ties` allows: √(1 - ties) / 2.
    """
    if not 0 <= ties <= 1:
        raise ValueError(f"ties: {ties} is not a share")
    return math.sqrt(1 - ties) / 2


def detection_power(n: int, difference: float, sd: float, level: float = 0.95) -> float:
    """Chance that the two-sided t test at 1 - level sees a true `difference` with n prompts (Cohen 1988, ch. 2).

    t² follows the noncentral F distribution with 1 and n - 1 degrees of freedom and noncentrality
    n (difference / sd)². (statsmodels' TTestPower uses the noncentral t distribution, which SciPy computes as NaN for
    many noncentralities.) From 10,000 prompts on the normal distribution is used, the same to four digits.
    """
    check_level(level)
    if n < 2 or not sd > 0:
        raise ValueError(f"n at least 2 and sd above 0 are needed, not {n} and {sd}")
    shift = abs(difference) * math.sqrt(n) / sd
    if shift == 0:
        return 1 - level
    critical = float(stats.t.isf((1 - level) / 2, n - 1))
    if n < 10_000:
        return float(stats.ncf.sf(critical**2, 1, n - 1, shift**2))
    return float(stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift))


def smallest_detectable_difference(n: int, sd: float, level: float = 0.95, power: float = 0.8) -> float | None:
    """Smallest true difference, in the units of `sd`, that n prompts show with this power.

    None for n < 2, or an sd of 0 (nothing is known about how the differences vary).
    """
    _check_power(power, level)
    if n < 2 or not sd > 0:
        return None

    def lack(effect: float) -> float:
        return detection_power(n, effect, 1.0, level) - power

    high = 1.0
    while lack(high) < 0:
        high *= 2
    return sd * float(optimize.brentq(lack, 0.0, high, xtol=1e-12))


def prompts_needed(difference: float, sd: float, level: float = 0.95, power: float = 0.8) -> int | None:
    """Fewest prompts that show a true `difference` with this power.

    None where no number would do (a difference of 0, or one so small that a million million are not enough) and
    where `sd` is 0 (nothing is known about how the differences vary).
    """
    _check_power(power, level)
    effect = abs(difference) / sd if sd > 0 else 0.0
    if effect == 0 or detection_power(_MOST, effect, 1.0, level) < power:
        return None
    few, enough = 1, 2
    while detection_power(enough, effect, 1.0, level) < power:
        few, enough = enough, enough * 2
    while enough - few > 1:
        middle = (few + enough) // 2
        if detection_power(middle, effect, 1.0, level) < power:
            few = middle
        else:
            enough = middle
    return enough


def _check_power(power: float, level: float) -> None:
    check_level(level)
    if not 1 - level < power < 1:
        raise ValueError(f"power: {power} is not between {1 - level:g} (the test's error rate) and 1")


def plan(clusters: Sequence[str]) -> Plan:
    """The smallest true distance of a win rate from 50 % that these prompts show in 8 of 10 evaluations.

    Two figures, because how alike the prompts of one cluster are is not known in advance: `at_best` if they are
    independent, `at_worst` if each cluster counts as one prompt. Without ties, which would make both smaller.

    Args:
        clusters: cluster of every prompt.
    """
    prompts, groups = len(clusters), len(set(clusters))
    best, worst = (smallest_detectable_difference(n, win_rate_sd()) for n in (prompts, groups))
    return Plan(prompts=prompts, clusters=groups, at_best=_possible(best), at_worst=_possible(worst))


def _possible(difference: float | None) -> float | None:
    """A win rate cannot lie further than a half from 50 %."""
    return difference if difference is not None and difference < 0.5 else None


def plan_line(plan: Plan) -> str:
    """The plan as one sentence."""
    best, worst = plan.at_best, plan.at_worst
    if best is None:
        return f"{plan.prompts} prompts can show no win rate at all: add prompts before paying a judge"
    line = f"{plan.prompts} prompts can show a win rate of {0.5 + best:.1%} or more (or {0.5 - best:.1%} or less)"
    if plan.clusters == plan.prompts:
        return line
    clustered = "none" if worst is None else f"{0.5 + worst:.1%} or more"
    return f"{line}; if prompts of one cluster ({plan.clusters} clusters) behave alike, {clustered}"
