"""LoRA adapters of a batch as one pair of products per layer, in the type that the model computes in.

PEFT keeps adapters in float32, converts the input of every layer to it, and computes the rows of each adapter by
themselves. Here the matrices of all adapters are stacked, A = [A₁; A₂; …] and B = [s₁B₁ s₂B₂ …], and a row of another
adapter is hidden by zeros between the two:

    y = W x + B (m ⊙ A x)

Adapters are not merged into the weights: in bfloat16 the sum W + sBA would round away what is smaller than half a
unit in the last place of W, which is most of what a gentle training changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor
from torch.nn import functional as F


class StackedAdapters:
    """Which adapter each row of the next forward has."""

    def __init__(self) -> None:
        self._rows: list[str] | None = None
        self._masks: dict[tuple[str, ...], Tensor] = {}

    def choose(self, rows: Sequence[str] | None) -> None:
        """Sets the adapter of each row; None: all stacked adapters for all rows."""
        rows = None if rows is None else list(rows)
        if rows != self._rows:
            self._rows, self._masks = rows, {}

    def mask(self, owners: tuple[str, ...], like: Tensor) -> Tensor | None:
        """[rows, 1, ranks], 1 where a row's adapter owns a rank; None where every row has all."""
        if self._rows is None:
            return None
        if owners not in self._masks:
            mask = torch.tensor([[float(owner == name) for owner in owners] for name in self._rows])
            self._masks[owners] = mask.to(device=like.device, dtype=like.dtype)[:, None]
        return self._masks[owners]


@contextmanager
def stacked_adapters(model: Any, names: Sequence[str] | None) -> Iterator[StackedAdapters | None]:
    """Lets the LoRA layers of a PEFT model compute stacked adapters within the block.

    Gives None where a layer is more than a plain LoRA of a linear layer, such as DoRA or a 4-bit base; nothing is
    changed then.

    Args:
        names: the adapters that rows will choose among; None: the active ones, for all rows.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    if not isinstance(model, PeftModel) or not all(_is_plain(layer) for layer in layers):
        yield None
        return
    chosen = StackedAdapters()
    try:
        for layer in layers:
            layer.forward = _forward(layer, chosen, names)
        yield chosen
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _is_plain(layer: Any) -> bool:
    return type(layer) is Linear and not layer.merged and not layer.lora_variant and not any(layer.lora_bias.values())


def _forward(layer: Any, chosen: StackedAdapters, names: Sequence[str] | None) -> Callable[..., Tensor]:
    active = () if layer.disable_adapters else layer.active_adapters
    present = [name for name in (active if names is None else names) if name in layer.lora_A]
    if not present:
        return lambda x: layer.base_layer(x)
    weight = layer.base_layer.weight
    down = torch.cat([layer.lora_A[name].weight.detach() for name in present]).to(weight)
    scaled = [layer.lora_B[name].weight.detach() * layer.scaling[name] for name in present]
    up = torch.cat(scaled, dim=1).to(weight)
    owners = tuple(name for name in present for _ in range(layer.lora_A[name].weight.shape[0]))

    def forward(x: Tensor) -> Tensor:
        result: Tensor = layer.base_layer(x)
        ranks = F.linear(x, down)
        mask = chosen.mask(owners, ranks)
        if mask is not None:
            ranks = ranks * mask
        return result + F.linear(ranks, up)

    return forward
