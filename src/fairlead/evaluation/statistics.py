"""The statistics of evaluation: pure functions on arrays, each with its source. Import them from here.

None of them reads a file, a clock or a global random state. A missing value is never passed; a figure that cannot
be given is None, with the reason in `method`.
"""

from fairlead.evaluation.agreement import cohens_kappa
from fairlead.evaluation.bootstrap import bootstrap_interval
from fairlead.evaluation.hypotheses import TestResult, holm, non_inferiority, permutation_test, sign_test
from fairlead.evaluation.intervals import (
    ClusterError,
    Interval,
    MissingBounds,
    bounded_mean_interval,
    cluster_error,
    mean_interval,
    missing_bounds,
    paired_difference,
    proportion_interval,
)
from fairlead.evaluation.power import (
    detection_power,
    prompts_needed,
    smallest_detectable_difference,
    win_rate_sd,
)
from fairlead.evaluation.ranking import bradley_terry
from fairlead.evaluation.winrate import length_adjusted_win_rate, win_rate

__all__ = [
    "ClusterError",
    "Interval",
    "MissingBounds",
    "TestResult",
    "bootstrap_interval",
    "bounded_mean_interval",
    "bradley_terry",
    "cluster_error",
    "cohens_kappa",
    "detection_power",
    "holm",
    "length_adjusted_win_rate",
    "mean_interval",
    "missing_bounds",
    "non_inferiority",
    "paired_difference",
    "permutation_test",
    "prompts_needed",
    "proportion_interval",
    "sign_test",
    "smallest_detectable_difference",
    "win_rate",
    "win_rate_sd",
]
