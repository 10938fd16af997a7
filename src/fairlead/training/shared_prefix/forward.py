"""The shared-prefix forward in the place of a model's own: `model(..., labels=labels, fused_lm_head=True)`.

TRL's trainers get per-token log-probabilities from a model through that one call, which returns [B, T - 1] for a padded
batch. After `share_prefixes` the model computes them from the packed row (`layout`). Where that would not give the same
values, TRL's own forward is used, and the reason is logged once.
"""

from __future__ import annotations

import functools
import logging
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedConfig, PreTrainedModel

from fairlead.training.shared_prefix.attention import PREFIX, register
from fairlead.training.shared_prefix.layout import (
    Layout,
    UnsupportedBatchError,
    UnsupportedError,
    build_layout,
    packed_backbone,
)
from fairlead.training.shared_prefix.lm_head import HeadSettings, token_scores
from fairlead.training.trl_compat import (
    attention_implementation,
    calls_registered_attention,
    gathered_head,
    load_balancing_loss,
    log_prob_output,
    set_attention_implementation,
)

logger = logging.getLogger(__name__)

_LAYERS = {"full_attention", "sliding_attention"}
_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}


class PackedForward:
    """The shared-prefix forward of one model, and whether it is used.

    Attributes:
        reason: why TRL's own forward is used instead; None while this one is.
        length_dependent: whether a row's values depend on the longest row of its batch (some rotary embeddings).
    """

    def __init__(self, model: PreTrainedModel, outputs: tuple[str, ...]) -> None:
        self.reason: str | None = None
        self.length_dependent = False
        self._logged: set[str] = set()
        self._config = model.config.get_text_config()
        self._attention: list[tuple[PreTrainedConfig, str]] = []
        try:
            _require_known(model)
            self._settings = head_settings(self._config, outputs)
            self.length_dependent = _rope_types(self._config) & _LENGTH_DEPENDENT_ROPE != set()
            self._take_over_attention(model)
        except UnsupportedError as error:
            self.give_up(str(error))

    def give_up(self, reason: str) -> None:
        """Uses TRL's own forward from now on."""
        self.reason = reason
        for config, original in self._attention:
            set_attention_implementation(config, original)
        self._log_once(reason)

    def run(self, model: PreTrainedModel, labels: Tensor, inputs: dict[str, Any]) -> Any:
        """The log-probabilities of a padded batch, as TRL's forward returns them.

        Raises:
            UnsupportedError: if the packed row would not give the padded batch's values.
        """
        inputs = {name: value for name, value in inputs.items() if value is not None}
        ids, mask = inputs.pop("input_ids", None), inputs.pop("attention_mask", None)
        inputs.pop("use_cache", None)
        router = inputs.pop("output_router_logits", getattr(self._config, "output_router_logits", False))
        if ids is None or mask is None or mask.dim() != 2 or inputs:
            others = ", ".join(sorted(inputs)) or "no tokens or no mask"
            raise UnsupportedBatchError(f"the batch carries {others}")
        # Each layer's router counts every token of the padded batch, so the last ones must be there too.
        layout = build_layout(ids, mask, labels, keep_last=self.length_dependent or router)
        extra = {"output_router_logits": True} if router else {}
        output = packed_backbone(model.base_model, layout, self._config.num_hidden_layers, **extra)
        result = self._score(model, layout, output.last_hidden_state[0])
        if router:
            # That of the padded batch: every token counts as often as it stood there.
            result.aux_loss = load_balancing_loss(output.router_logits, self._config, layout.multiplicity)
            result.loss = result.loss + getattr(self._config, "router_aux_loss_coef", 0.0) * result.aux_loss
        return result

    def _score(self, model: PreTrainedModel, layout: Layout, hidden: Tensor) -> Any:
        head = model.get_output_embeddings()
        weight, bias = head.weight, head.bias
        if isinstance(weight, DTensor):
            weight, bias = weight.full_tensor(), None if bias is None else bias.full_tensor()
        with gathered_head(weight, bias):
            states = hidden[layout.sources].to(weight.device)
            scores = token_scores(states, weight, bias, layout.targets.to(weight.device), self._settings)

        def scatter(values: Tensor | None) -> Tensor | None:
            return None if values is None else layout.scatter(values.to(layout.scored.device))

        log_probs = layout.scatter(scores.log_probs.to(layout.scored.device))
        return log_prob_output(
            loss=-log_probs.sum() / layout.scored.sum().clamp(min=1),
            log_probs=log_probs,
            entropy=scatter(scores.entropy),
            log_sum_sq_probs=scatter(scores.log_sum_sq_probs),
            mean_logits=scatter(scores.mean_logits),
            is_top1=scatter(scores.is_top1),
            label_mask=layout.scored,
        )

    def _take_over_attention(self, model: PreTrainedModel) -> None:
        for module in model.modules():
            config = getattr(module, "config", None)
            if isinstance(config, PreTrainedConfig) and not attention_implementation(config).startswith(PREFIX):
                original = attention_implementation(config)
                set_attention_implementation(config, register(original))
                self._attention.append((config, original))

    def _log_once(self, reason: str) -> None:
        if reason not in self._logged:
            self._logged.add(reason)
            logger.warning("prompts are not shared, TRL's own forward is used: %s", reason)

    def try_run(self, model: PreTrainedModel, labels: Tensor, inputs: dict[str, Any]) -> Any:
        """`run`, or None where TRL's own forward is to be used."""
        if self.reason is not None:
            return None
        try:
            return self.run(model, labels, inputs)
        except UnsupportedBatchError as error:
            self._log_once(str(error))
        except UnsupportedError as error:
            self.give_up(str(error))
        return None


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
        context: entered around each packed forward, such as autocast for a model that is prepared already.
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


def _require_known(model: PreTrainedModel) -> None:
    """Refuses models whose tokens attend to something else than the layout says, or of which that is not known.

    Raises:
        UnsupportedError: with the reason.
    """
    config = model.config
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    for unsupported, reason in (
        (config.is_encoder_decoder, "it has an encoder"),
        (text is not config, "it takes more than text"),
        (not getattr(config, "is_causal", True), "it is not causal"),
        (getattr(text, "use_bidirectional_attention", None), "it looks in both directions"),
        (not calls_registered_attention(model), "it does not use transformers' attention interface"),
        (not kinds <= _LAYERS, f"it has layers of the kind {', '.join(sorted(kinds - _LAYERS))}"),
        (not hasattr(text, "num_hidden_layers"), "it does not say how many layers it has"),
    ):
        if unsupported:
            raise UnsupportedError(f"{type(model).__name__}: {reason}")


def _rope_types(config: PreTrainedConfig) -> set[str]:
    """The kinds of rotary embedding in a config; some depend on the longest row of the batch."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    by_layer = [value for value in rope.values() if isinstance(value, dict)]
    return {str(parameters.get("rope_type", "default")) for parameters in (by_layer or [rope])}
