"""The derivation in docs/mathematics.md, in numbers, on a policy that is a table: 2 prompts, 4 answers each."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, xlogy

Table = NDArray[np.float64]  # [prompts, answers]

RNG = np.random.default_rng(0)
REWARD: Table = RNG.normal(size=(2, 4))
REFERENCE: Table = RNG.dirichlet(np.ones(4), size=2)
PAIRS = [(w, r) for w in range(4) for r in range(4) if w != r]


def optimum(beta: float, reward: Table = REWARD) -> Table:
    """π*(y | x) = π_ref(y | x) exp(r(x, y) / β) / Z(x), eq. 4 of the DPO paper."""
    weights = REFERENCE * np.exp(reward / beta)
    return weights / weights.sum(axis=1, keepdims=True)


def kl(policy: Table) -> Table:
    """[prompts] KL(π ‖ π_ref)."""
    return np.asarray((xlogy(policy, policy) - policy * np.log(REFERENCE)).sum(axis=1))


def objective(policy: Table, beta: float) -> float:
    """E r − β KL, eq. 3, summed over prompts."""
    return float(((policy * REWARD).sum(axis=1) - beta * kl(policy)).sum())


def softmax(logits: NDArray[np.float64]) -> Table:
    table = logits.reshape(2, 4)
    return np.asarray(np.exp(table - logsumexp(table, axis=1, keepdims=True)))


def gaps(logits: NDArray[np.float64], beta: float) -> dict[tuple[int, int, int], float]:
    """β h of every (prompt, winner, loser)."""
    ratio = np.log(softmax(logits)) - np.log(REFERENCE)
    return {(x, w, r): beta * float(ratio[x, w] - ratio[x, r]) for x in range(2) for w, r in PAIRS}


def dpo_loss(logits: NDArray[np.float64], beta: float, reward: Table = REWARD) -> float:
    """Eq. 7 in expectation: pairs of all answers, labelled by Bradley-Terry with the true reward."""
    return -sum(
        float(expit(reward[x, w] - reward[x, r]) * np.log(expit(gap))) for (x, w, r), gap in gaps(logits, beta).items()
    )


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0])
def test_the_closed_form_is_the_optimum_of_the_constrained_objective(beta: float) -> None:
    """Its value is β log Z, and no other policy reaches it: the difference is β KL(π ‖ π*)."""
    best = optimum(beta)
    log_z = np.log((REFERENCE * np.exp(REWARD / beta)).sum(axis=1))
    assert objective(best, beta) == pytest.approx(beta * float(log_z.sum()))
    for policy in np.random.default_rng(1).dirichlet(np.ones(4), size=(50, 2)):
        away = float((xlogy(policy, policy) - policy * np.log(best)).sum())
        assert objective(policy, beta) == pytest.approx(objective(best, beta) - beta * away)


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_the_minimiser_of_dpos_loss_is_that_optimum(beta: float) -> None:
    minimum = minimize(dpo_loss, np.zeros(8), args=(beta,), method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(softmax(minimum.x), optimum(beta), atol=1e-4)


def test_the_gradient_is_that_of_the_paper() -> None:
    """−β E[σ(−gap) (∇ log π(y_w) − ∇ log π(y_l))], weighted by how wrong the implicit reward is."""
    logits, beta, step = RNG.normal(size=8), 0.7, 1e-6
    numeric = np.array(
        [(dpo_loss(logits + d, beta) - dpo_loss(logits - d, beta)) / (2 * step) for d in np.eye(8) * step]
    )
    expected = np.zeros((2, 4))
    for (x, w, r), gap in gaps(logits, beta).items():
        # ∇ log π(y_w) − ∇ log π(y_l) of a table of logits is +1 at w and −1 at r.
        weight = beta * float(expit(REWARD[x, w] - REWARD[x, r])) * float(expit(-gap))
        expected[x, w] -= weight
        expected[x, r] += weight
    np.testing.assert_allclose(numeric, expected.ravel(), atol=1e-6)


def test_z_cancels_whatever_is_added_to_the_reward_of_a_prompt() -> None:
    shifted = REWARD + np.array([[3.0], [-7.0]])
    np.testing.assert_allclose(optimum(0.5, shifted), optimum(0.5))
    logits = RNG.normal(size=8)
    assert dpo_loss(logits, 0.5, shifted) == pytest.approx(dpo_loss(logits, 0.5))


def test_beta_trades_reward_for_kl_from_the_best_answer_to_the_reference() -> None:
    betas = (0.01, 0.05, 0.1, 0.3, 0.5, 1.0, 10.0)
    distance = [float(kl(optimum(beta)).sum()) for beta in betas]
    reward = [float((optimum(beta) * REWARD).sum()) for beta in betas]
    assert distance == sorted(distance, reverse=True)
    assert reward == sorted(reward, reverse=True)
    assert optimum(0.01).max(axis=1) == pytest.approx([1, 1], abs=1e-6)
    assert (optimum(0.01).argmax(axis=1) == REWARD.argmax(axis=1)).all()
    np.testing.assert_allclose(optimum(1e4), REFERENCE, atol=1e-4)


def test_on_labels_without_doubt_dpos_gap_has_no_end_and_ipos_and_cdpos_have() -> None:
    """IPO's minimum lies at h = 1 / (2τ) (Azar et al. 2023, eq. 17), cDPO's at βh = log((1 − ε) / ε)."""
    h, beta, error = np.linspace(0, 60, 600_001), 0.1, 0.1
    dpo = np.logaddexp(0, -beta * h)
    ipo = (h - 1 / (2 * beta)) ** 2
    cdpo = (1 - error) * np.logaddexp(0, -beta * h) + error * np.logaddexp(0, beta * h)
    assert dpo.argmin() == len(h) - 1
    assert h[ipo.argmin()] == pytest.approx(1 / (2 * beta), abs=1e-3)
    assert h[cdpo.argmin()] == pytest.approx(np.log(0.9 / 0.1) / beta, abs=1e-2)
