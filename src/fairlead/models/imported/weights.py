"""Whether full weights made elsewhere are those of a model like the base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairlead.config.model import ModelSection
from fairlead.errors import ModelError, some
from fairlead.models.imported.source import ModelFiles
from fairlead.models.loading import layer_configs, load_config, unmatched_tensors

_COMPARED = (
    *("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("intermediate_size", "head_dim", "tie_word_embeddings"),
)


def check_weights(files: ModelFiles, section: ModelSection, folder: Path) -> None:
    """Refuses weights of another architecture or size than the base's, and files that do not hold all of them.

    Raises:
        ModelError: naming what differs.
    """
    if quantised := files.config.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise ModelError(
            f"its weights are quantised ({method or 'quantization_config'}), and full weights are wanted",
            where=files.where,
            remedy="give the weights as they were before; model.quantization: 4bit loads them as NF4",
        )
    ours, theirs = load_config(section, folder), load_config(section, folder, files.folder)
    differences = [
        f"{name} is {value}, the base's {expected}"
        for name in _COMPARED
        if (value := _value(theirs, name)) != (expected := _value(ours, name))
    ]
    if differences:
        raise ModelError(
            f"it is no model like the base {section.name}: its {'; '.join(differences[:3])}",
            where=files.where,
            remedy="set model.name to the model that it was trained from",
        )
    missing, unexpected = unmatched_tensors(section, files.folder)
    if missing or unexpected:
        parts = [f"lack {some(missing, 3)}"] * bool(missing)
        parts += [f"hold {some(unexpected, 3)} besides"] * bool(unexpected)
        raise ModelError(f"its weights {' and '.join(parts)}", where=files.where, remedy="save or copy the model again")


def _value(config: Any, name: str) -> object:
    text = config.get_text_config()
    if not getattr(text, "is_heterogeneous", False):
        return getattr(text, name, None)
    return [getattr(layer, name, None) for layer in layer_configs(text)]
