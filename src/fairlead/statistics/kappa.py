"""Agreement of two raters beyond chance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa as contingency_kappa

from fairlead.records import Interval
from fairlead.statistics.intervals import check_level, same_length
from fairlead.statistics.wilson import wilson_ends


def cohens_kappa(first: Sequence[Hashable], second: Sequence[Hashable], level: float = 0.95) -> Interval:
    """Cohen's κ of two raters over the same items (Cohen 1960), unweighted.

    κ = (p_o - p_e) / (1 - p_e). The interval is Wilson's for the observed agreement p_o carried to κ's scale, its
    critical value multiplied by the ratio of the standard error of κ (Fleiss, Cohen & Everitt 1969) to
    that of p_o / (1 - p_e), at least 1; for large n it becomes theirs. At n = 30 and κ = 0.9 it covers 94 %,
    theirs 79 %, and perfect agreement does not give an interval of no width.

    Undefined where both raters always give one and the same label (chance agreement is then certain).
    """
    check_level(level)
    same_length(first, second, "first and second")
    n = len(first)
    if n == 0:
        return Interval(None, None, None, 0, "undefined: no values")
    codes: dict[Hashable, int] = {}
    pairs = [
        (codes.setdefault(a, len(codes)), codes.setdefault(b, len(codes))) for a, b in zip(first, second, strict=True)
    ]
    if len(codes) == 1:
        return Interval(None, None, None, n, "undefined: both raters always give the same one label")
    table = np.zeros((len(codes), len(codes)))
    np.add.at(table, tuple(np.array(pairs).T), 1)
    agreement = float(np.trace(table)) / n
    chance = float(table.sum(axis=0) @ table.sum(axis=1)) / n**2
    kappa = (agreement - chance) / (1 - chance)
    critical = float(stats.norm.isf((1 - level) / 2))
    plain = math.sqrt(agreement * (1 - agreement) / n) / (1 - chance)
    if plain > 0:
        with np.errstate(invalid="ignore", divide="ignore"):  # of its z test, which is not used
            variance = float(contingency_kappa(table).var_kappa)
        critical *= max(math.sqrt(max(variance, 0.0)) / plain, 1.0)
    low, high = ((end - chance) / (1 - chance) for end in wilson_ends(agreement, n, critical))
    return Interval(kappa, max(low, -1.0), high, n, "Wilson on the agreement, scaled to κ")
