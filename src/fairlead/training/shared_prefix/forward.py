"""The shared-prefix forward in the place of a model's own: `model(..., labels=labels, fused_lm_head=True)`.

TRL's trainers get per-token log-probabilities from a model through that one call, which returns [B, T - 1] for a padded
batch. After `share_prefixes` the model computes them from the packed row (`layout`). Where that would not give the same
values, they come from prompts whose state is carried on to the answers (`carried`), else from distinct rows (`rows`),
else from TRL's own forward, and the reason is logged once.
"""

from __future__ import annotations

import functools
import logging
import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedConfig, PreTrainedModel

from fairlead.training.shared_prefix.attention import PREFIX, register
from fairlead.training.shared_prefix.carried import carried_states, carries, shared_prompts
from fairlead.training.shared_prefix.decoder import (
    LENGTH_DEPENDENT_ROPE,
    is_sharded,
    require_causal,
    require_known_attention,
    rope_types,
    text_decoder,
)
from fairlead.training.shared_prefix.layout import (
    LongRowError,
    ScoredTokens,
    UnsupportedBatchError,
    UnsupportedError,
    build_layout,
    packed_backbone,
)
from fairlead.training.shared_prefix.lm_head import HeadSettings, token_scores
from fairlead.training.shared_prefix.rows import Routed, Row, distinct_rows, row_states
from fairlead.training.trl_compat import (
    attention_implementation,
    gathered_head,
    load_balancing_loss,
    log_prob_output,
    set_attention_implementation,
)

logger = logging.getLogger(__name__)


Way = Literal["packed", "carried", "rows", "trl"]

_WAYS: dict[Way, str] = {
    "carried": "each prompt is computed once, and its state carried on to its answers",
    "rows": "each row is computed by itself",
    "trl": "TRL's own forward is used",
}


class PackedForward:
    """The forward of one model in the place of TRL's: the cheapest way that is exact.

    Attributes:
        way: how batches are computed. `packed`: one row in which every common beginning stands once; `carried`: each
            prompt once, its answers from its cache; `rows`: distinct rows; `trl`: TRL's own forward.
        not_packed: why it is not the packed row; None where it is.
        reason: why TRL's own forward is used; None where it is not.
        length_dependent: whether a row's values depend on the longest row of its batch (some rotary embeddings).
    """

    def __init__(self, model: PreTrainedModel, outputs: tuple[str, ...]) -> None:
        self.way: Way = "packed"
        self.not_packed: str | None = None
        self._carries = False
        self._logged: set[str] = set()
        self._config, self._text = model.config, model.config.get_text_config()
        self._settings = head_settings(self._text, outputs)
        self.length_dependent = rope_types(self._text) & LENGTH_DEPENDENT_ROPE != set()
        self._attention: list[tuple[PreTrainedConfig, str]] = []
        try:
            require_causal(model)
        except UnsupportedError as error:
            self.give_up(str(error))
            return
        try:
            require_known_attention(model)
            self._take_over_attention(model)
        except UnsupportedError as error:
            self._give_up_packing(str(error))

    @property
    def reason(self) -> str | None:
        return self.not_packed if self.way == "trl" else None

    def give_up(self, reason: str) -> None:
        """Uses TRL's own forward from now on."""
        self._put_back_attention()
        self._go(reason, "trl")

    def _give_up_packing(self, reason: str) -> None:
        self._put_back_attention()
        self._go(reason, "trl" if self.length_dependent else "carried")  # then a row has no values of its own

    def _go(self, reason: str, way: Way) -> None:
        self.not_packed, self.way = reason, way
        self._log_once(f"{_WAYS[way]}: {reason}")

    def _put_back_attention(self) -> None:
        for config, original in self._attention:
            set_attention_implementation(config, original)
        self._attention = []

    def try_run(self, model: PreTrainedModel, labels: Tensor, inputs: dict[str, Any]) -> Any:
        """The log-probabilities of a padded batch as TRL's forward returns them; None where that is to be used."""
        try:
            if self.way == "packed":
                try:
                    return self._run_packed(model, *self._batch(labels, inputs))
                except LongRowError as error:
                    self._log_once(f"{_WAYS['trl' if self.length_dependent else 'rows']}: {error}")
                except UnsupportedBatchError:
                    raise
                except UnsupportedError as error:
                    self._give_up_packing(str(error))
            if self.way != "trl" and not self.length_dependent:
                return self._run_rows(model, *self._batch(labels, inputs))
        except UnsupportedBatchError as error:
            self._log_once(f"{_WAYS['trl']}: {error}")
        return None

    def _batch(self, labels: Tensor, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, bool]:
        """Tokens, mask and labels of a batch, and whether the routers' logits are asked for.

        Raises:
            UnsupportedBatchError: if the batch carries anything else.
        """
        inputs = {name: value for name, value in inputs.items() if value is not None}
        ids, mask = inputs.pop("input_ids", None), inputs.pop("attention_mask", None)
        inputs.pop("use_cache", None)
        router = inputs.pop("output_router_logits", getattr(self._text, "output_router_logits", False))
        if ids is None or mask is None or mask.dim() != 2 or inputs:
            others = ", ".join(sorted(inputs)) or "no tokens or no mask"
            raise UnsupportedBatchError(f"the batch carries {others}")
        return ids, mask, labels, bool(router)

    def _run_packed(self, model: PreTrainedModel, ids: Tensor, mask: Tensor, labels: Tensor, router: bool) -> Any:
        # Each layer's router counts every token of the padded batch, so the last ones must be there too.
        layout = build_layout(ids, mask, labels, keep_last=self.length_dependent or router)
        extra = {"output_router_logits": True} if router else {}
        output = packed_backbone(text_decoder(model), layout, self._text.num_hidden_layers, **extra)
        result = self._score(model, layout, output.last_hidden_state[0])
        if router:
            # That of the padded batch: every token counts as often as it stood there.
            self._add_aux_loss(result, output.router_logits, layout.multiplicity)
        return result

    def _run_rows(self, model: PreTrainedModel, ids: Tensor, mask: Tensor, labels: Tensor, router: bool) -> Any:
        rows, tokens = distinct_rows(ids, mask, labels, keep_last=router)
        backbone, routed = text_decoder(model), Routed()
        extra = {"output_router_logits": True} if router else {}
        sharded = is_sharded(model)
        if self.way == "carried" and not sharded and self._may_carry(model, backbone, rows, ids.device):
            states = carried_states(backbone, self._config, rows, ids.device, routed, **extra)
        else:
            states = row_states(backbone, rows, ids.device, routed, one_call=sharded, **extra)
        result = self._score(model, tokens, torch.cat(states))
        if router:
            self._add_aux_loss(result, *routed.joined())
        return result

    def _may_carry(
        self, model: PreTrainedModel, backbone: nn.Module, rows: Sequence[Row], device: torch.device
    ) -> bool:
        """Whether prompts of this batch are carried; the first time, it is tried whether that is exact."""
        checkpointed = model.training and any(
            getattr(part, "gradient_checkpointing", False) for part in model.modules()
        )
        if checkpointed or not shared_prompts(rows)[0]:
            return False  # checkpointing computes a layer again, and it would find its cache changed
        if not self._carries:
            reason = carries(backbone, self._config, rows, device)
            if reason is not None:
                self._go(f"{self.not_packed}, and {reason}", "rows")
            self._carries = reason is None
        return self._carries

    def _add_aux_loss(self, result: Any, router_logits: tuple[Tensor, ...], weights: Tensor) -> None:
        result.aux_loss = load_balancing_loss(router_logits, self._text, weights)
        result.loss = result.loss + getattr(self._text, "router_aux_loss_coef", 0.0) * result.aux_loss

    def _score(self, model: PreTrainedModel, tokens: ScoredTokens, hidden: Tensor) -> Any:
        head = model.get_output_embeddings()
        weight, bias = head.weight, head.bias
        if isinstance(weight, DTensor):
            weight, bias = weight.full_tensor(), None if bias is None else bias.full_tensor()
        with gathered_head(weight, bias):
            states = hidden[tokens.sources].to(weight.device)
            scores = token_scores(states, weight, bias, tokens.targets.to(weight.device), self._settings)

        def scatter(values: Tensor | None) -> Tensor | None:
            return None if values is None else tokens.scatter(values.to(tokens.scored.device))

        log_probs = tokens.scatter(scores.log_probs.to(tokens.scored.device))
        return log_prob_output(
            loss=-log_probs.sum() / tokens.scored.sum().clamp(min=1),
            log_probs=log_probs,
            entropy=scatter(scores.entropy),
            log_sum_sq_probs=scatter(scores.log_sum_sq_probs),
            mean_logits=scatter(scores.mean_logits),
            is_top1=scatter(scores.is_top1),
            label_mask=tokens.scored,
        )

    def _take_over_attention(self, model: PreTrainedModel) -> None:
        for module in text_decoder(model).modules():
            config = getattr(module, "config", None)
            if isinstance(config, PreTrainedConfig) and not attention_implementation(config).startswith(PREFIX):
                original = attention_implementation(config)
                set_attention_implementation(config, register(original))
                self._attention.append((config, original))

    def _log_once(self, message: str) -> None:
        if message not in self._logged:
            self._logged.add(message)
            logger.warning("prompts are not packed; %s", message)


def share_prefixes(
    model: PreTrainedModel,
    outputs: tuple[str, ...] = ("log_probs",),
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> PackedForward:
    """Replaces TRL's log-probability forward of a model by the shared-prefix forward wherever that is exact.

    `model(..., fused_lm_head=True, shared_prefix=False)` calls TRL's.

    Args:
        model: a causal language model after `trl_compat.add_log_prob_head`; inside PEFT, its base.
        outputs: per-token fields of `trl_compat.log_prob_output` to compute.
        context: entered around each such forward, such as autocast for a model that is prepared already.
    """
    trl_forward = model.forward
    packed = PackedForward(model, outputs)

    @functools.wraps(type(model).forward)  # `generate` validates its arguments against this signature
    def forward(
        self: PreTrainedModel, *args: Any, fused_lm_head: bool = False, shared_prefix: bool = True, **kwargs: Any
    ) -> Any:
        if fused_lm_head and shared_prefix and not args:
            inputs = dict(kwargs)
            with context():
                output = packed.try_run(self, inputs.pop("labels"), inputs)
            if output is not None:
                return output
        return trl_forward(*args, fused_lm_head=fused_lm_head, **kwargs)

    model.forward = types.MethodType(forward, model)
    return packed


def head_settings(config: PreTrainedConfig, outputs: tuple[str, ...]) -> HeadSettings:
    """What a model does to its logits by its config, read as TRL reads it."""
    names = ("logit_scale", "output_multiplier", "lm_head_multiplier")  # Cohere; Muse Glimmer; Falcon-H1
    scale = next((value for name in names if (value := getattr(config, name, None)) is not None), None)
    scaling = getattr(config, "logits_scaling", None)
    if scale is None and scaling is not None:
        scale = scaling if config.model_type == "hyperclovax" else 1 / scaling  # Granite and MiniCPM3 divide
    return HeadSettings(1.0 if scale is None else scale, getattr(config, "final_logit_softcapping", None), outputs)
