"""How many tokens a model's layers compute: what a way does, whatever it is written in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM


@dataclass
class Computed:
    """Tokens that went through the first layer, those of padding included; `with_gradient` of them for a gradient."""

    tokens: int = 0
    with_gradient: int = 0

    def flops(self, layer_weights: int) -> float:
        """Floating-point operations of the layers' matrix products: two per weight and token, and as many again for
        the gradient of the inputs. Attention and the head over the vocabulary are not in it."""
        return 2.0 * layer_weights * (self.tokens + self.with_gradient)


@contextlib.contextmanager
def counted(model: Path) -> Iterator[tuple[Computed, int]]:
    """Counts while it lasts, in every model of the architecture in a folder.

    Yields:
        The counts, and the weights of the layers' linear modules.
    """
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    layers = empty.get_decoder().layers
    weights = sum(
        module.weight.numel() for layer in layers for module in layer.modules() if isinstance(module, torch.nn.Linear)
    )
    kind, computed = type(layers[0]), Computed()
    forward = kind.forward

    def counting(self: Any, hidden_states: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        if self.self_attn.layer_idx == 0:
            tokens = hidden_states.shape[:-1].numel()
            computed.tokens += tokens
            computed.with_gradient += tokens * torch.is_grad_enabled()
        return forward(self, hidden_states, *arguments, **named)

    kind.forward = counting
    try:
        yield computed, weights
    finally:
        kind.forward = forward
