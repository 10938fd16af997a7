"""Loads base models, tokenizers and adapters: safetensors only, no remote code unless the config says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fairlead.config.loading.base_model import adapter_as_base
from fairlead.config.model import ModelSection
from fairlead.config.values.package_file import is_package_file, package_file
from fairlead.errors import DataError, ModelError
from fairlead.files import read_json, read_text
from fairlead.models import hardware
from fairlead.models.chat import check_template
from fairlead.models.gguf.cache import converted, is_gguf
from fairlead.pipeline.stage import looks_like_path, resolve

_FOLDER_REMEDY = "model.name wants a complete folder written by save_pretrained, with *.safetensors"
_TRAIN_AGAIN = "train it again for this model.name: fairlead run"
# What transformers, PEFT and tokenizers raise about files that are not what they should be.
_LOADING_ERRORS = (OSError, ValueError, ImportError, LookupError, RuntimeError, TypeError, AttributeError)

# Plain text for tokenizers without a chat template: every turn ends a line, an answer ends with the end-of-sequence
# token. It travels with the tokenizer, so the trained model is prompted the same way everywhere.
PLAIN_TEMPLATE = (
    "{{ bos }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
)


def locate(name: str, folder: Path) -> str:
    """A model's folder if the name is one, or that of the converted GGUF file if it is such a file, else the hub id.

    Raises:
        ModelError: if a folder of that name exists and is no model, or the name looks like a path and is absent.
    """
    path = package_file(name) if is_package_file(name) else resolve(folder, name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                "is no model folder: it has no config.json",
                where=str(path),
                remedy="model.name wants a folder written by save_pretrained, or a hub id",
            )
        _check_config(path / "config.json")
        return str(path)
    if is_gguf(path) and path.is_file():
        return str(converted(path))
    if looks_like_path(name) or is_gguf(path) or path.is_file():
        kind = "is no GGUF file" if path.is_file() else "no such GGUF file" if is_gguf(path) else "no such model folder"
        raise ModelError(kind, where=str(path), remedy="correct model.name in fairlead.yaml")
    return name


def _check_config(path: Path) -> None:
    """Refuses a config.json that is no JSON object; transformers would end in an error about something else."""
    try:
        is_object = isinstance(read_json(path), dict)
    except DataError as error:
        raise ModelError(f"its config.json {error.what}", where=str(path.parent), remedy=_FOLDER_REMEDY) from error
    if not is_object:
        raise ModelError("its config.json holds no JSON object", where=str(path.parent), remedy=_FOLDER_REMEDY)


def load_tokenizer(section: ModelSection, folder: Path, source: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer, with a pad token and a chat template whatever its repository lacks.

    Args:
        source: a folder to load it from instead of the base model's (a trained model carries its own copy).

    Raises:
        ModelError: if it cannot be loaded, can never end an answer, or its chat template fails on a plain question.
    """
    name = source or locate(section.name, folder)
    tokenizer: PreTrainedTokenizerBase = _from_pretrained(AutoTokenizer, name, section)
    if source is None and section.tokenizer is not None:
        name, tokenizer = section.tokenizer, _other_tokenizer(section, folder, tokenizer)
    template = read_text(resolve(folder, section.chat_template)) if section.chat_template else None
    complete_tokenizer(tokenizer, name, template)
    check_template(tokenizer, section.chat_template or name)
    return tokenizer


def complete_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str, template: str | None = None) -> None:
    """Gives a tokenizer the pad token and the chat template that it lacks.

    Args:
        template: a chat template to take instead of its own.

    Raises:
        ModelError: if it has no end-of-sequence token.
    """
    if tokenizer.eos_token is None:
        raise ModelError(
            "its tokenizer has no end-of-sequence token, so an answer could never end",
            where=name,
            remedy="set eos_token in its tokenizer_config.json",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked everywhere, so any token will do
    if template is not None:
        tokenizer.chat_template = template
    elif tokenizer.chat_template is None:
        first = tokenizer("a")["input_ids"][:1]
        begins = tokenizer.bos_token is not None and first == [tokenizer.bos_token_id]
        tokenizer.chat_template = PLAIN_TEMPLATE.replace("{{ bos }}", "{{ bos_token }}" if begins else "")


def _other_tokenizer(section: ModelSection, folder: Path, base: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer that `model.tokenizer` names; it differs from the base's in template and special tokens alone.

    Raises:
        ModelError: if it has another vocabulary, of which the base knows nothing.
    """
    assert section.tokenizer is not None
    path = resolve(folder, section.tokenizer)
    if not path.is_dir() and looks_like_path(section.tokenizer):
        raise ModelError("no such folder", where=f"model.tokenizer: {path}", remedy="correct model.tokenizer")
    name = str(path) if path.is_dir() else section.tokenizer
    of_another = section.model_copy(update={"revision": None})  # which is the base's
    tokenizer: PreTrainedTokenizerBase = _from_pretrained(AutoTokenizer, name, of_another)
    if tokenizer.get_vocab() != base.get_vocab():
        raise ModelError(
            f"has another vocabulary than the base's ({len(tokenizer)} tokens, the base {len(base)})",
            where=f"model.tokenizer: {section.tokenizer}",
            remedy="give a tokenizer with the base's vocabulary; its template and special tokens may differ",
        )
    return tokenizer


def load_base(section: ModelSection, folder: Path, source: str | None = None) -> PreTrainedModel:
    """The base model on this machine's device, in evaluation mode.

    Args:
        source: a folder of full weights to load instead (a fully fine-tuned SFT or DPO model).

    Raises:
        ModelError: if it cannot be loaded, with the reason in one line.
    """
    name = source or locate(section.name, folder)
    on = hardware.device()
    kwargs: dict[str, Any] = {"dtype": hardware.resolve_dtype(section.dtype, on), "use_safetensors": True}
    if section.quantization == "4bit":
        kwargs["quantization_config"] = _four_bit(on)
        kwargs["device_map"] = {"": on}
    model = _from_pretrained(_class_for(name, section), name, section, **kwargs)
    if getattr(model, "_hf_peft_config_loaded", False):  # transformers loads an adapter's base with it
        raise adapter_as_base(name, name, model.config._name_or_path or None)
    if section.quantization is None:
        model.to(on)
    loaded: PreTrainedModel = model.eval()
    return loaded


def load_adapter(base: PreTrainedModel, folder: Path, *, name: str = "default", trainable: bool = False) -> PeftModel:
    """Wraps `base` with the adapter in `folder`."""
    with adapter_errors(folder):
        model = PeftModel.from_pretrained(base, str(folder), adapter_name=name, is_trainable=trainable)
    # The adapter names its base as the config does, relative to the project; PEFT would look for that on the hub.
    model.peft_config[name].base_model_name_or_path = base.config._name_or_path
    return model


@contextmanager
def adapter_errors(folder: Path, where: str | None = None, remedy: str = _TRAIN_AGAIN) -> Iterator[None]:
    """Turns whatever PEFT raises about an adapter that it cannot load into one line.

    Args:
        where: what names the adapter; its folder if None.
    """
    where = where or str(folder)
    try:
        yield
    except SafetensorError as error:
        raise ModelError(
            f"the adapter's weights are damaged: {_first_line(error)}", where=where, remedy=remedy
        ) from error
    except _LOADING_ERRORS as error:
        raise ModelError(
            f"the adapter does not fit the base model: {_reason(error)}", where=where, remedy=remedy
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error; of the list of tensors that do not fit, its first item."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    heads_a_list = len(lines) > 1 and lines[0].startswith("Error(s) in loading state_dict")
    return lines[1][:300] if heads_a_list else _first_line(error)


def load_config(section: ModelSection, folder: Path, source: Path | None = None) -> PretrainedConfig:
    """The config of the base model, or of full weights in a folder.

    Raises:
        ModelError: if it cannot be read.
    """
    name = locate(section.name, folder) if source is None else str(source)
    config: PretrainedConfig = _from_pretrained(AutoConfig, name, section)
    return config


def empty_base(section: ModelSection, folder: Path, source: Path | None = None) -> PreTrainedModel:
    """The base model, or full weights in a folder, without its weights: modules and shapes alone."""
    config = load_config(section, folder, source)
    with torch.device("meta"):
        model: PreTrainedModel = auto_class(config).from_config(config, trust_remote_code=section.trust_remote_code)
    return model


def layer_configs(config: PretrainedConfig) -> list[PretrainedConfig]:
    """The config of each layer of a text decoder; in some families (Gemma 4) sizes differ from layer to layer."""
    if getattr(config, "is_heterogeneous", False):
        return [config.per_layer_config[number] for number in range(config.num_hidden_layers)]
    return [config] * config.num_hidden_layers


def auto_class(config: PretrainedConfig) -> Any:
    """The class of transformers that loads a model for text: one that takes images too is used with text alone."""
    takes_images = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if takes_images and not own_code and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForImageTextToText
    return AutoModelForCausalLM


def _class_for(name: str, section: ModelSection) -> Any:
    try:
        return auto_class(_from_pretrained(AutoConfig, name, section))
    except ModelError:  # an adapter has no config of its own; what else is wrong, loading says
        return AutoModelForCausalLM


def unmatched_tensors(section: ModelSection, source: Path) -> tuple[list[str], list[str]]:
    """The tensors that the files of a model lack, and those that they hold besides; loads them all."""
    name = str(source)
    model, report = _from_pretrained(
        _class_for(name, section), name, section, use_safetensors=True, output_loading_info=True
    )
    del model
    return sorted(report["missing_keys"]), sorted(report["unexpected_keys"])


def _four_bit(on: torch.device) -> BitsAndBytesConfig:
    if on.type != "cuda":
        raise ModelError(
            "4bit needs a CUDA device, this machine has none",
            where="model.quantization",
            remedy="set model.quantization: null (fairlead doctor shows what this machine can do)",
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if hardware.computes_bf16(on) else torch.float16,
    )


def _from_pretrained(factory: Any, name: str, section: ModelSection, **kwargs: Any) -> Any:
    if not Path(name).is_dir():
        kwargs["revision"] = section.revision
    try:
        return factory.from_pretrained(name, trust_remote_code=section.trust_remote_code, **kwargs)
    except SafetensorError as error:
        raise ModelError(
            f"its weights are damaged: {_first_line(error)}", where=name, remedy="copy or download the model again"
        ) from error
    except _LOADING_ERRORS as error:
        raise ModelError(f"cannot be loaded: {_first_line(error)}", where=name, remedy=_remedy(name)) from error


def _remedy(name: str) -> str:
    if Path(name).is_dir():
        return _FOLDER_REMEDY
    return "check the id, the network and HF_TOKEN, or give a folder as model.name"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
