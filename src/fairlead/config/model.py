"""The `model` section: the base model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fairlead.config.base import FilePath, ModelPath, Section


class ModelSection(Section):
    """The base model."""

    name: ModelPath = Field(
        description="base model: a folder, a hub id such as Qwen/Qwen2.5-0.5B-Instruct, a .gguf file, or one inside an "
        "installed Python package (package:NAME/FILE)"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="weights' type; auto is bfloat16 where this machine multiplies it faster, else float32"
    )
    quantization: Literal["4bit"] | None = Field(
        None, description="4bit loads the base as NF4 for QLoRA (needs CUDA and bitsandbytes)"
    )
    trust_remote_code: bool = Field(False, description="run Python code that the model's repository ships")
    tokenizer: ModelPath | None = Field(
        None,
        description="folder or hub id of a tokenizer to use instead of the base's: same vocabulary, another chat "
        "template or end of an answer, as an SFT model made elsewhere may have",
    )
    chat_template: FilePath | None = Field(
        None, description="file with a Jinja chat template to use instead of the tokenizer's own"
    )
