"""A tiny model of a decoder family of transformers, with random weights, made from the family's config class alone.

The sizes below are set in whatever config has them; what a family needs besides stands in `OVERRIDES`. Each kind of
layer that a family's default config has is in the tiny model at least once.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from fairlead.models.loading import auto_class

WIDTH, WORDS = 32, 97
_LARGEST = 10_000_000  # parameters of a tiny model

WINDOW = 6
"""Tokens that a layer with a sliding window looks back; the rows of the measurements are longer."""

SMALL: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": WIDTH, "n_embd": WIDTH, "d_model": WIDTH, "intermediate_size": 48,
    "num_hidden_layers": 2, "n_layer": 2, "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "n_layers": 2,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "sliding_window": WINDOW, "attention_chunk_size": 8,
    # mixtures of experts
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "n_shared_experts": 1, "moe_num_experts": 4, "moe_k": 2,
    # multi-head latent attention
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "qk_head_dim": 16,
    # recurrences and convolutions
    "linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_d_ssm": 64, "mamba_n_groups": 1,
    "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "state_size": 8, "mamba_dt_rank": 4,
    "mamba_chunk_size": 8, "chunk_size": 8, "conv_dim": WIDTH, "block_dim": WIDTH,
    # what sees images
    "image_size": 16, "patch_size": 8, "depth": 2, "num_heads": 4, "out_hidden_size": WIDTH, "vision_output_dim": WIDTH,
}  # fmt: skip

_LATENT = {"num_key_value_heads": 4, "head_dim": 8}
_GEMMA4 = {"global_head_dim": 16, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": WORDS}
_THREE_AXES = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}}
_ALTERNATING = ["linear_attention", "hybrid"]
OVERRIDES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ["deepseek_v2", "deepseek_v3", "deepseek_v32", "axk1", "axk2", "bailing_hybrid", "longcat_flash", "minicpm3",
         "youtu", "glm4_moe_lite", "glm_moe_dsa", "kimi_linear", "mistral4"],
        _LATENT,
    ),
    **dict.fromkeys(["gemma4_text", "gemma4_unified_text"], _GEMMA4),
    "gemma3n_text": {
        "num_hidden_layers": 5, "layer_types": ["sliding_attention", "full_attention"] * 2 + ["full_attention"],
        "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": WORDS,
        "laurel_rank": 8, "activation_sparsity_pattern": None,
    },
    **dict.fromkeys(
        ["qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text", "glm4v_text"],
        _THREE_AXES,
    ),
    "glm4v_moe_text": {"rope_parameters": {**_THREE_AXES["rope_parameters"], "mrope_section": [1, 1, 0]}},
    "qwen2_vl_vision": {"embed_dim": WIDTH, "hidden_size": WIDTH},
    "codegen": {"rotary_dim": 4},
    "gptj": {"rotary_dim": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "window_size": WINDOW},
    "mamba2": {"num_heads": 8},
    "zaya": {"num_experts_per_tok": 1},
    "bamba": {"attn_layer_indices": [1]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "nemotron_h": {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"], "num_hidden_layers": 4,
                   "moe_shared_expert_intermediate_size": 16, "n_groups": 1},
    "recurrent_gemma": {"num_hidden_layers": 3, "lru_width": WIDTH},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": _ALTERNATING * 2, "attention_hidden_size": 64,
              "attention_head_dim": 16, "n_mamba_heads": 2, "mamba_dt_rank": 4},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": _ALTERNATING * 2, "num_mem_blocks": 1},
}  # fmt: skip


def tiny_config(family: str) -> hf.PreTrainedConfig:
    """The config of a family by its `model_type`."""
    return _tiny(CONFIG_MAPPING[family])


def _tiny(made: type[hf.PreTrainedConfig]) -> hf.PreTrainedConfig:
    default = made()
    settings = {name: value for name, value in SMALL.items() if _has(made, name)}
    kinds = list(dict.fromkeys(getattr(default, "layer_types", None) or []))
    if kinds and _has(made, "layer_types") and "layer_types" not in made.attribute_map:
        settings["layer_types"] = (kinds * 2)[: max(2, len(kinds))]
        settings["num_hidden_layers"] = len(settings["layer_types"])
    for part in made.sub_configs:
        sub = getattr(default, part, None)
        if isinstance(sub, hf.PreTrainedConfig):
            settings[part] = _tiny(type(sub)).to_dict()
    return made(**settings | OVERRIDES.get(made.model_type, {}))


def _has(made: type[hf.PreTrainedConfig], name: str) -> bool:
    """Whether a config class has a setting of that name, and not one that follows from others."""
    settings = {*made.__dataclass_fields__, *made.attribute_map}
    return name in settings and not isinstance(getattr(made, name, None), property)


def tiny_model(family: str) -> Any:
    """A family's tiny model in evaluation mode, with weights so large that every layer matters.

    Weights as they are initialised would leave the output nearly the same whatever a layer computes.

    Raises:
        ValueError: if it would not be tiny, because the family calls its sizes by other names.
    """
    config = tiny_config(family)
    with torch.device("meta"):
        size = auto_class(config).from_config(config, attn_implementation="eager").num_parameters()
    if size > _LARGEST:
        raise ValueError(f"it would have {size:,} parameters")
    torch.manual_seed(0)
    model = auto_class(config).from_config(config, attn_implementation="eager").eval()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() >= 2 and "A_log" not in name:
                weights.normal_(0.0, weights.shape[-1] ** -0.5, generator=draw)
    return model
