"""Writes a GGUF file's model as a folder that `from_pretrained` reads: unpacked weights, config, tokenizer."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.integrations.gguf import GGUF_CONFIG_ARCHS

from fairlead.errors import DiskError, ModelError, some
from fairlead.models.gguf.header import Header, damage, read_header
from fairlead.models.gguf.tokenizer import end_tokens, load_tokenizer


def convert(path: Path, out: Path) -> None:
    """Writes the model into the folder `out`.

    Weights that the file holds as blocks become float32, in which no block loses anything; others keep their type.

    Raises:
        ModelError: if the file is damaged, or transformers does not read all of it.
        DiskError: if the disk of `out` has no room for the weights.
    """
    header = read_header(path)
    _demand_space(header, path, out)
    with damage(path):
        tokenizer = load_tokenizer(path, header)
        model = _load(path, header)
    _demand_vocabulary(model, len(tokenizer), path)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "pad_token_id")}
    ends = end_tokens(tokenizer, header)
    rules = GenerationConfig(**ids, eos_token_id=ends if len(ends) != 1 else ends[0])
    for name, value in {**ids, "eos_token_id": tokenizer.eos_token_id}.items():
        setattr(model.config, name, value)
    model.generation_config = rules
    _forget_origin(model)
    model.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors makes them readable by the owner only


def _demand_space(header: Header, path: Path, out: Path) -> None:
    """Refuses before anything is unpacked; the check before a run comes here too."""
    needed, free = sum(header.elements.values()) * _dtype(path).itemsize, shutil.disk_usage(out).free
    if needed > free:
        raise DiskError(
            f"{path.name} is unpacked into {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free",
            where=str(out.parent),
            remedy="free some space, or set FAIRLEAD_CACHE to a folder on a larger disk",
        )


def _load(path: Path, header: Header) -> PreTrainedModel:
    from transformers import GgufConfig

    dtype = _dtype(path)
    with redirect_stderr(io.StringIO()):  # bars, which nothing else turns off
        model, report = AutoModelForCausalLM.from_pretrained(
            str(path.parent),
            gguf_file=path.name,
            dtype=dtype,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
    if missing := sorted(report["missing_keys"]):
        raise _not_all(path, f"it leaves {some(missing, 3)} without weights")
    _demand_all_read(model, header, path)
    loaded: PreTrainedModel = model
    return loaded


def _forget_origin(model: PreTrainedModel) -> None:
    """Makes it a model like any other: transformers saves none that says that it is quantised as GGUF."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:
        quantizer.remove_quantization_config(model)
    vars(model.config).pop("_model_name_or_path", None)  # the file's title, which is no path


def _dtype(path: Path) -> torch.dtype:
    from transformers.integrations.gguf import GgufHeader

    try:
        return GgufHeader.from_file(str(path)).dtype or torch.float32
    except ValueError:  # an older quantisation, see `read_header`
        return torch.float32


def _demand_all_read(model: PreTrainedModel, header: Header, path: Path) -> None:
    """Refuses a file of which transformers has left out tensors, which it does in silence.

    The architectures of its newer reader name what they leave out.
    """
    if header.architecture in GGUF_CONFIG_ARCHS:
        return
    tied = model.config.get_text_config().tie_word_embeddings
    held = sum(count for name, count in header.elements.items() if not (tied and name == "output.weight"))
    read = sum(parameter.numel() for parameter in model.parameters())
    if held != read:
        raise _not_all(path, f"the file holds {held:,} numbers, the model made of it {read:,}")


def _demand_vocabulary(model: Any, tokens: int, path: Path) -> None:
    size = model.get_input_embeddings().weight.shape[0]
    if tokens > size:
        raise ModelError(f"its tokenizer has {tokens} tokens, its embeddings {size}", where=str(path))


def _not_all(path: Path, what: str) -> ModelError:
    return ModelError(
        f"transformers does not read all of it from GGUF: {what}",
        where=str(path),
        remedy="use the safetensors of the same model",
    )
