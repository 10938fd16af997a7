"""The KL from the reference, against figures worked by hand, exact values and the log-ratio of the sampled tokens."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairlead.config.model import ModelSection
from fairlead.models.kl import answer_kls, next_token_kls, per_answer, per_token, runs_within
from fairlead.models.loading import load_base
from fairlead.models.log_probs import Scored

P1, Q1 = np.array([0.7, 0.2, 0.1]), np.array([0.4, 0.4, 0.2])
P2 = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
Q2 = np.array([[0.6, 0.4], [0.5, 0.5], [0.3, 0.7]])


def kl_of_tables(p: np.ndarray, q: np.ndarray) -> list[float]:
    """KL of every row of two tables of probabilities."""
    return next_token_kls(torch.tensor(p).float().log(), torch.tensor(q).float().log()).tolist()


def sampled_answers(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """KL and log-ratio of n two-token answers whose second token depends on the first, and the exact KL."""
    joint_p, joint_q = P1[:, None] * P2, Q1[:, None] * Q2
    exact = float((joint_p * np.log(joint_p / joint_q)).sum())
    first = rng.choice(3, n, p=P1)
    second = (rng.random(n) < P2[first, 1]).astype(int)
    kls = kl_of_tables(P1[None], Q1[None])[0] + np.array(kl_of_tables(P2, Q2))[first]
    return kls, np.log(joint_p / joint_q)[first, second], exact


def test_the_kl_of_a_token_worked_by_hand() -> None:
    """½ ln 2 + ¼ ln ½ = ¼ ln 2, ¾ ln 3 + ¼ ln ⅓ = ½ ln 3, and 0 where the distributions are equal."""
    p = np.array([[1 / 2, 1 / 4, 1 / 4], [3 / 4, 1 / 4, 0], [1 / 3, 1 / 3, 1 / 3]])
    q = np.array([[1 / 4, 1 / 2, 1 / 4], [1 / 4, 3 / 4, 0], [1 / 3, 1 / 3, 1 / 3]])
    assert kl_of_tables(p, q) == pytest.approx([math.log(2) / 4, math.log(3) / 2, 0.0])


def test_the_expectation_is_the_exact_kl_and_that_of_the_log_ratio_and_the_variance_is_smaller() -> None:
    kls, log_ratios, exact = sampled_answers(np.random.default_rng(0), 40_000)
    kl, k1 = per_answer(kls.tolist()), per_answer(log_ratios.tolist())
    assert kl.error is not None
    assert k1.error is not None
    assert abs(kl.value - exact) < 3 * kl.error
    assert abs(kl.value - k1.value) < 3 * k1.error
    assert kl.error < 0.3 * k1.error
    assert kls.min() >= 0
    assert log_ratios.min() < 0


def test_the_standard_error_covers_what_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        kls, _, exact = sampled_answers(rng, 64)
        estimate = per_answer(kls.tolist())
        assert estimate.error is not None
        inside += abs(estimate.value - exact) < 1.96 * estimate.error
    assert 0.92 < inside / 400 < 0.98


def test_the_kl_is_never_below_0() -> None:
    logits = torch.randn(200, 50, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(200, 50, generator=torch.Generator().manual_seed(1))
    assert next_token_kls(logits, logits).tolist() == [0.0] * 200
    assert next_token_kls(logits, logits + 1e-6 * noise).min() >= 0


def test_a_token_that_both_models_rule_out_counts_nothing() -> None:
    policy, reference = torch.randn(5, 30), torch.randn(5, 30)
    ruled_out = torch.full((5, 1), -math.inf)
    kls = next_token_kls(torch.cat([policy, ruled_out], 1), torch.cat([reference, ruled_out], 1))
    torch.testing.assert_close(kls, next_token_kls(policy, reference))


def test_logits_that_are_no_numbers_are_not_taken_for_agreement() -> None:
    policy = torch.tensor([[0.0, math.nan], [0.0, 1.0]])
    kls = next_token_kls(policy, torch.zeros(2, 2))
    assert math.isnan(kls[0])
    assert kls[1] > 0


def test_a_token_that_only_the_reference_rules_out_is_infinitely_far() -> None:
    assert kl_of_tables(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])) == [math.inf]


def test_a_large_vocabulary_is_taken_in_chunks_of_tokens_with_the_same_kl() -> None:
    """Of 2^20 words four tokens at a time."""
    policy = torch.randn(6, 2**20, generator=torch.Generator().manual_seed(0))
    reference = torch.randn(6, 2**20, generator=torch.Generator().manual_seed(1))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=policy), torch.distributions.Categorical(logits=reference)
    )
    torch.testing.assert_close(next_token_kls(policy, reference), expected, rtol=1e-3, atol=0)


def in_use(model: Any) -> AbstractContextManager[Any]:
    return nullcontext(model)


@pytest.mark.parametrize(("batch_size", "held_logits"), [(3, 2**28), (1, 2**28), (3, 1), (2, 1500)])
def test_the_kl_of_an_answer_is_the_sum_over_its_tokens_however_answers_are_batched(
    tiny_model: Path, batch_size: int, held_logits: int
) -> None:
    policy, reference = (load_base(ModelSection(name=str(tiny_model), dtype="float32"), tiny_model) for _ in range(2))
    with torch.no_grad():
        policy.lm_head.weight.mul_(10)
    rows = [Scored((5, 9, 12, 7), 2), Scored((8, 4), 1), Scored((3, 30, 31, 32, 33, 34), 5)]
    kls = answer_kls(
        lambda: in_use(policy),
        lambda: in_use(reference),
        rows,
        pad_id=0,
        batch_size=batch_size,
        held_logits=held_logits,
    )
    for row, kl in zip(rows, kls, strict=True):
        with torch.no_grad():
            log_p, log_q = (
                m(input_ids=torch.tensor([row.tokens])).logits[0].double().log_softmax(-1) for m in (policy, reference)
            )
        by_position = (log_p.exp() * (log_p - log_q)).sum(-1)
        assert kl == pytest.approx(float(by_position[-row.counted - 1 : -1].sum()), rel=1e-4)
        assert kl > 0


def test_no_answers_have_no_kl(tiny_model: Path) -> None:
    model = load_base(ModelSection(name=str(tiny_model), dtype="float32"), tiny_model)
    assert answer_kls(lambda: in_use(model), lambda: in_use(model), [], pad_id=0, batch_size=2) == []


@pytest.mark.parametrize(
    ("tokens", "most", "runs"),
    [
        ([], 10, []),
        ([3, 3, 3], 10, [[3, 3, 3]]),
        ([3, 3, 3], 6, [[3, 3], [3]]),
        ([9, 1, 9], 5, [[9], [1], [9]]),
    ],
)
def test_answers_are_runs_within_up_to_a_number_of_tokens(tokens: list[int], most: int, runs: list[list[int]]) -> None:
    assert [tokens[run] for run in runs_within(tokens, most)] == runs


def test_per_token_figures_weigh_answers_by_their_length() -> None:
    estimate = per_token([1.0, 9.0], [1, 3])
    assert estimate.value == pytest.approx(10 / 4)
    # Residuals 1 - 2.5 and 9 - 7.5, so s = √(2 · 1.5²); divided by √2 and the mean length 2.
    assert estimate.error == pytest.approx(1.5 / 2)


def test_one_answer_has_no_error() -> None:
    assert per_answer([0.5]).error is None
    assert per_token([0.5], [2]).error is None
