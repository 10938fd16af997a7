"""Estimators of the KL from the reference, against exact values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fairlead.models.kl import answer_kl, kl_estimates, mean_estimate, ratio_estimate


def tabular(rng: np.random.Generator, n: int) -> tuple[list[np.ndarray], float]:
    """Log-ratios of sampled two-token answers under tables of which the second depends on the first, and the KL."""
    p1, q1 = np.array([0.7, 0.2, 0.1]), np.array([0.4, 0.4, 0.2])
    p2 = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    q2 = np.array([[0.6, 0.4], [0.5, 0.5], [0.3, 0.7]])
    p, q = p1[:, None] * p2, q1[:, None] * q2
    exact = float((p * np.log(p / q)).sum())
    first = rng.choice(3, n, p=p1)
    second = (rng.random(n) < p2[first, 1]).astype(int)
    rows = np.stack([np.log(p1 / q1)[first], np.log(p2 / q2)[first, second]], axis=1)
    return list(rows), exact


def test_both_estimates_are_unbiased_and_k3_spreads_less() -> None:
    rows, exact = tabular(np.random.default_rng(0), 40_000)
    kl = kl_estimates(rows)
    assert kl.k1.error is not None
    assert kl.k3.error is not None
    assert abs(kl.k1.value - exact) < 3 * kl.k1.error
    assert abs(kl.k3.value - exact) < 3 * kl.k3.error
    assert kl.k3.error < 0.7 * kl.k1.error


def test_the_standard_error_of_k1_covers_what_it_says_and_that_of_k3_does_not() -> None:
    """400 times 64 samples: of k3 most have not seen the tail. This is why k1 leads."""
    rng = np.random.default_rng(1)
    inside = {"k1": 0, "k3": 0}
    for _ in range(400):
        rows, exact = tabular(rng, 64)
        kl = kl_estimates(rows)
        for name, estimate in (("k1", kl.k1), ("k3", kl.k3)):
            assert estimate.error is not None
            inside[name] += abs(estimate.value - exact) < 1.96 * estimate.error
    assert 0.9 < inside["k1"] / 400 < 0.98
    assert inside["k3"] / 400 < 0.85


def test_k3_is_never_negative_and_0_without_error_where_nothing_differs() -> None:
    assert kl_estimates([np.zeros(3), np.zeros(5)]).k3 == mean_estimate([0.0, 0.0])
    assert kl_estimates([np.array([-1.0, 0.2]), np.array([-0.5])]).k3.value > 0
    assert kl_estimates([np.array([-1.0, 0.2]), np.array([-0.5])]).k1.value < 0


def test_a_ratio_that_is_enormous_stays_finite() -> None:
    assert math.isfinite(kl_estimates([np.array([-500.0]), np.array([0.0])]).k3.value)


def test_per_token_figures_weigh_samples_by_their_length() -> None:
    estimates = ratio_estimate(np.array([1.0, 9.0]), np.array([1.0, 3.0]))
    assert estimates.value == pytest.approx(10 / 4)


def test_one_sample_has_no_error_and_none_is_refused() -> None:
    assert kl_estimates([np.array([0.5])]).k1.error is None
    with pytest.raises(ValueError, match="at least one sample"):
        kl_estimates([])
    with pytest.raises(ValueError, match="without tokens"):
        kl_estimates([np.array([])])


def test_the_kl_is_that_of_the_whole_distribution_and_never_below_0() -> None:
    ours, theirs = torch.randn(5, 30), torch.randn(5, 30)
    p = torch.distributions.Categorical(logits=ours)
    expected = torch.distributions.kl_divergence(p, torch.distributions.Categorical(logits=theirs)).sum()
    assert answer_kl(ours, theirs) == pytest.approx(float(expected), rel=1e-4)
    assert answer_kl(ours, ours + 1e-6 * torch.randn(5, 30)) >= 0
    ruled_out = torch.full((5, 1), -math.inf)
    with_holes = answer_kl(torch.cat([ours, ruled_out], 1), torch.cat([theirs, ruled_out], 1))
    assert with_holes == pytest.approx(float(expected), rel=1e-4)
