"""Prompts computed once for decoders with recurrent layers: the state after the prompt is carried on to each answer.

A layer with a recurrence (Mamba, linear attention, short convolutions) has no row of tokens to attend to, but a state.
So a prompt with several answers is computed as a generation computes it: once with a cache, whose rows are then copied
for its answers, which go on from there. Gradients flow back through the cache.

Whether a decoder goes on exactly where its cache ends depends on its layers and on the kernels that are installed: some
take a state for one further token only. So it is tried on the first prompts that come (`carries`).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig

from fairlead.training.shared_prefix.layout import MIN_SHARED
from fairlead.training.shared_prefix.rows import Routed, Row, padded, row_states


def shared_prompts(rows: Sequence[Row]) -> tuple[list[list[int]], list[int]]:
    """Numbers of the rows of each prompt that has several answers and is worth a call of its own, and of all others."""
    prompts: dict[tuple[int, ...], list[int]] = {}
    for number, row in enumerate(rows):
        prompts.setdefault(row.tokens[: row.prompt], []).append(number)
    shared = [members for prompt, members in prompts.items() if len(members) > 1 and len(prompt) >= MIN_SHARED]
    inside = {number for members in shared for number in members}
    return shared, [number for number in range(len(rows)) if number not in inside]


def carried_states(
    backbone: nn.Module,
    config: PreTrainedConfig,
    rows: Sequence[Row],
    device: torch.device,
    routed: Routed,
    **kwargs: Any,
) -> list[Tensor]:
    """Of each row the hidden states from `Row.first` on, [tokens, H]; arguments as those of `row_states`.

    Args:
        config: the model's, for its cache.
    """
    shared, others = shared_prompts(rows)
    states: dict[int, Tensor] = {}
    by_prompt_length: dict[int, list[list[int]]] = {}
    for members in shared:
        by_prompt_length.setdefault(rows[members[0]].prompt, []).append(members)
    for prompts in by_prompt_length.values():
        states.update(_from_prompts(backbone, config, rows, prompts, device, routed, kwargs))
    if others:
        alone = row_states(backbone, [rows[n] for n in others], device, routed, one_call=False, **kwargs)
        states.update(zip(others, alone, strict=True))
    return [states[n] for n in range(len(rows))]


def _from_prompts(
    backbone: nn.Module,
    config: PreTrainedConfig,
    rows: Sequence[Row],
    prompts: Sequence[Sequence[int]],
    device: torch.device,
    routed: Routed,
    kwargs: dict[str, Any],
) -> dict[int, Tensor]:
    """The states of the rows of some prompts of one length, which need no padding."""
    length = rows[prompts[0][0]].prompt
    ids, mask = padded([rows[members[0]].tokens[:length] for members in prompts], device)
    cache = DynamicCache(config=config)
    # Models without any attention call it by another name.
    takes = inspect.signature(backbone.forward).parameters
    kwargs = {**kwargs, "cache_params" if "cache_params" in takes else "past_key_values": cache, "use_cache": True}
    output = backbone(input_ids=ids, attention_mask=mask, **kwargs)
    routed.add(output, mask, [sum(rows[n].count for n in members) for members in prompts])
    place = {n: number for number, members in enumerate(prompts) for n in members}
    states = {n: output.last_hidden_state[place[n], length - 1 : length] for n in place}
    going_on = [n for n in place if len(rows[n].tokens) > length]
    if not going_on:
        return states
    cache.reorder_cache(torch.tensor([place[n] for n in going_on], device=device))
    _keep_states(cache)
    # Two tokens at least: a single one is a step of generation, which writes into the state.
    ids, new = padded([rows[n].tokens[length:] for n in going_on], device, width=2)
    mask = torch.cat([new.new_ones(len(new), length), new], dim=1)
    if "position_ids" in takes:
        kwargs["position_ids"] = torch.arange(length, mask.shape[1], device=device).expand(new.shape)
    output = backbone(input_ids=ids, attention_mask=mask, **kwargs)
    routed.add(output, new, [rows[n].count for n in going_on])
    for number, n in enumerate(going_on):
        after = output.last_hidden_state[number, : len(rows[n].tokens) - length]
        states[n] = torch.cat([states[n], after])
    return states


def _keep_states(cache: Any) -> None:
    """Lets recurrent layers read their states and write none: the backward pass needs them as they are."""
    for layer in cache.layers:
        if hasattr(layer, "recurrent_states"):
            layer.update_conv_state = lambda states, number=0, layer=layer, **_: torch.cat(
                [layer.conv_states[number], states], dim=-1
            )
            layer.update_recurrent_state = lambda states, *_, **__: states


def carries(backbone: nn.Module, config: PreTrainedConfig, rows: Sequence[Row], device: torch.device) -> str | None:
    """Why a decoder does not go on exactly where its cache ends, on some prompt of `rows`; None if it does.

    Hidden states, and gradients with respect to the embedded prompt, are compared with those of whole rows; in
    evaluation mode, so without dropout.
    """
    shared, _ = shared_prompts(rows)
    members = min(shared, key=lambda numbers: sum(len(rows[n].tokens) for n in numbers))
    some = [rows[n] for n in members]
    training = backbone.training
    backbone.eval()
    try:
        whole = _traced(backbone, some, lambda: row_states(backbone, some, device, Routed(), one_call=True))
        carried = _traced(backbone, some, lambda: carried_states(backbone, config, some, device, Routed()))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a decoder does with a cache that it does not know
        return f"it does not take up a cache ({type(error).__name__})"
    finally:
        backbone.train(training)
    exact = whole[1].dtype == torch.float32 and not torch.is_autocast_enabled(device.type)
    for what, ours, theirs in zip(("states", "gradients"), carried, whole, strict=True):
        difference = float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12))
        if not difference <= (1e-3 if exact else 5e-2):
            return f"its {what} after a cached prompt are other ones (by {difference:.1g})"
    return None


def _traced(backbone: Any, rows: Sequence[Row], compute: Any) -> tuple[Tensor, Tensor]:
    """[N, H] states, and the gradient of a weighted sum of them with respect to the embedded prompt."""
    embedded: list[Tensor] = []

    def leaf(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        del module, inputs
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    handle = backbone.get_input_embeddings().register_forward_hook(leaf)
    try:
        with torch.enable_grad():
            states = torch.cat(compute())
            weights = torch.linspace(-1, 1, states.numel(), device=states.device).view_as(states)
            gradients = torch.autograd.grad((states * weights).sum(), embedded[0])
    finally:
        handle.remove()
    return states.detach(), gradients[0][:, : rows[0].prompt].sum(dim=0)
