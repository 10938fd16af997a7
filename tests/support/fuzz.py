"""Settings of every Hypothesis test: the same examples on every run, few in `make test` and many in `make fuzz`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def bounded(default: int = 50) -> settings:
    """The decorator of a fuzz test: `@bounded()` above `@given(...)`.

    Args:
        default: how many examples are tried where FAIRLEAD_FUZZ_EXAMPLES names no number; fewer for tests whose
            single example is slow.
    """
    return settings(
        derandomize=True,  # seeded by the test's own code: what fails here fails everywhere
        max_examples=int(os.environ.get("FAIRLEAD_FUZZ_EXAMPLES", default)),
        deadline=None,  # a wall-clock limit fails on a busy machine
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
