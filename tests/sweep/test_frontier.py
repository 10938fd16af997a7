"""The comparison of frontiers at equal KL tells a better method from a worse one, and says when it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.frontier import compare as frontier

PROMPTS, SEEDS = 120, 3


def setting(method: str, name: str, kl: float, score: float, noise: float = 0.1, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    scores = score + noise * rng.standard_normal((SEEDS, PROMPTS))
    return frontier.Setting(method, name, scores, np.full((SEEDS, PROMPTS), kl))


def dpo() -> list[Any]:
    return [setting("DPO", f"beta {kl}", kl, 0.5 + 0.1 * kl, seed=int(kl)) for kl in (1.0, 2.0, 3.0)]


START = setting("best of n", "n 1", 0.0, 0.5)


@pytest.mark.parametrize(("score", "word"), [(0.55, "confirmed"), (0.65, "open"), (0.8, "refuted")])
def test_the_claim_follows_from_the_difference_at_equal_kl(score: float, word: str) -> None:
    """At 1.5 nats DPO's line stands at 0.65, between its points."""
    (difference,) = frontier.compare([*dpo(), setting("RLOO", "beta 0.1", 1.5, score, seed=9)], START, draws=300)
    assert difference.value == pytest.approx(0.65 - score, abs=0.03)
    assert difference.word == word


def test_a_kl_that_dpo_does_not_reach_is_not_compared() -> None:
    others = [setting("best of n", "n 2", 0.2, 0.4, seed=5), setting("best of n", "n 64", 3.2, 0.4, seed=6)]
    (difference,) = frontier.compare([*dpo(), *others], START, draws=100)
    assert (difference.compared, difference.beyond) == (("n 2",), ("n 64",))
    (nothing,) = frontier.compare([*dpo(), others[1]], START, draws=100)
    assert (nothing.value, nothing.word) == (None, "open")
    assert "| best of n | — | — | n 64 | open |" in frontier.verdict_markdown([nothing])


def test_seeds_that_disagree_leave_the_claim_open() -> None:
    one = setting("RLOO", "beta 0.1", 1.5, 0.6, seed=9)
    one.scores[0] += 0.4
    (difference,) = frontier.compare([*dpo(), one], START, draws=300)
    assert difference.word == "open"
