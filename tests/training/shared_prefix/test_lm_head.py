"""The fused head against logits of all tokens at once, over several blocks of tokens and of words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fairlead.training.shared_prefix import lm_head
from fairlead.training.shared_prefix.lm_head import OUTPUTS, HeadSettings, TokenScores, token_scores

TOKENS, WORDS, WIDTH = 23, 101, 16


@pytest.fixture(autouse=True, params=[(7, 10), (64, 128)], ids=["many blocks", "one block"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_head, "BLOCKS", {"cpu": request.param})


def head(*, bias: bool = False, spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    torch.manual_seed(0)
    hidden = (spread * torch.randn(TOKENS, WIDTH)).requires_grad_()
    weight = torch.randn(WORDS, WIDTH).requires_grad_()
    shift = torch.randn(WORDS).requires_grad_() if bias else None
    return hidden, weight, shift, torch.randint(0, WORDS, (TOKENS,))


def plain(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, settings: HeadSettings
) -> dict[str, Tensor]:
    """The same by its definition."""
    logits = settings.scale * torch.nn.functional.linear(hidden, weight, bias)
    if settings.softcap is not None:
        logits = settings.softcap * torch.tanh(logits / settings.softcap)
    log_probs = logits.log_softmax(dim=1)
    return {
        "log_probs": log_probs.gather(1, targets[:, None])[:, 0],
        "entropy": -(log_probs.exp() * log_probs).sum(dim=1),
        "log_sum_sq_probs": (2 * log_probs).logsumexp(dim=1),
        "mean_logits": logits.mean(dim=1),
        "is_top1": logits.argmax(dim=1) == targets,
    }


def same(computed: TokenScores, expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(
            getattr(computed, name), value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


class _Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


def test_no_tensor_is_tokens_by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_head, "BLOCKS", {"cpu": (8, 64)})
    tokens, words, hidden_size = 64, 512, 4
    hidden, weight = torch.randn(tokens, hidden_size).requires_grad_(), torch.randn(words, hidden_size).requires_grad_()
    targets = torch.randint(0, words, (tokens,))
    with _Largest() as largest:
        token_scores(hidden, weight, None, targets, HeadSettings(outputs=OUTPUTS)).log_probs.sum().backward()
    assert hidden.grad is not None
    assert 8 * 64 <= largest.elements <= words * hidden_size < tokens * words
    with _Largest() as largest:
        plain(hidden, weight, None, targets, HeadSettings())
    assert largest.elements == tokens * words


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("settings", [{}, {"softcap": 3.0}, {"scale": 0.5, "softcap": 2.0}, {"scale": 2.0}])
def test_values_and_gradients_are_those_of_the_whole_logits(bias: bool, settings: dict[str, float]) -> None:
    head_settings = HeadSettings(**settings, outputs=OUTPUTS)
    hidden, weight, shift, targets = head(bias=bias)
    leaves = [leaf for leaf in (hidden, weight, shift) if leaf is not None]
    incoming = torch.randn(TOKENS)
    expected = plain(hidden, weight, shift, targets, head_settings)
    gradients = torch.autograd.grad((expected["log_probs"] * incoming).sum(), leaves)

    computed = token_scores(hidden, weight, shift, targets, head_settings)

    same(computed, expected)
    for got, gradient in zip(
        torch.autograd.grad((computed.log_probs * incoming).sum(), leaves), gradients, strict=True
    ):
        torch.testing.assert_close(got, gradient, rtol=1e-4, atol=1e-5)


def test_logits_that_rise_from_block_to_block_lose_nothing() -> None:
    """The largest logit comes last, hundreds above the first: what is relative to it must neither overflow nor stay."""
    hidden, weight, _, targets = head()
    rising = (weight.detach() * 0.01 + torch.linspace(0, 50, WORDS)[:, None]).requires_grad_()
    positive = hidden.detach().abs().requires_grad_()
    head_settings = HeadSettings(outputs=("log_probs", "entropy", "log_sum_sq_probs", "is_top1"))
    expected = {
        name: value
        for name, value in plain(positive, rising, None, targets, head_settings).items()
        if name in head_settings.outputs
    }
    computed = token_scores(positive, rising, None, targets, head_settings)
    for name, value in expected.items():
        torch.testing.assert_close(getattr(computed, name), value, rtol=1e-5, atol=1e-3)


def test_of_equal_logits_the_first_is_the_top() -> None:
    hidden, weight, _, _ = head()
    same_words = weight.detach().clone()
    same_words[[5, 40, 90]] = 10 * same_words[5]  # one word thrice, in three blocks
    logits = hidden.detach() @ same_words.T
    for target in (5, 40, 90):
        targets = torch.full((TOKENS,), target)
        computed = token_scores(
            hidden.detach(), same_words, None, targets, HeadSettings(outputs=("log_probs", "is_top1"))
        )
        assert computed.is_top1 is not None
        assert computed.is_top1.tolist() == (logits.argmax(dim=1) == target).tolist()
    assert (logits.argmax(dim=1) == 5).any()


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, _, targets = head()
    computed = token_scores(hidden, weight.detach(), None, targets, HeadSettings())
    computed.log_probs.sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_bfloat16_is_as_near_as_its_logits_are() -> None:
    hidden, weight, _, targets = head()
    low, low_weight = hidden.detach().bfloat16().requires_grad_(), weight.detach().bfloat16()
    exact = low.detach().float().requires_grad_()
    expected = plain(exact, low_weight.float(), None, targets, HeadSettings())["log_probs"]
    (gradient,) = torch.autograd.grad(expected.sum(), exact)
    computed = token_scores(low, low_weight, None, targets, HeadSettings()).log_probs
    (got,) = torch.autograd.grad(computed.sum(), low)
    torch.testing.assert_close(computed, expected, rtol=0.02, atol=0.05)
    assert (got.float() - gradient).norm() < 0.02 * gradient.norm()
