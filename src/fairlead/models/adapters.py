"""Base, SFT and DPO as model variants: which base weights each has, and which adapter lies on them.

With LoRA all three share one set of base weights and differ in the adapter that is switched on. With full weights
each is a model of its own. Either way `VariantLoader` gives the model of a variant and holds one set of base weights
at a time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fairlead.config.model import ModelSection
from fairlead.models.continuous_batching import NO_ADAPTER
from fairlead.models.loading import adapter_errors, load_adapter, load_base, load_tokenizer

ModelName = Literal["base", "sft", "dpo"]


@dataclass(frozen=True)
class ModelVariant:
    """Where a model's weights are.

    Attributes:
        base: folder of full weights; None is the base model of the config.
        adapter: folder of a LoRA adapter on them; None is the weights alone.
    """

    base: Path | None = None
    adapter: Path | None = None


def is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def variant_after(start: ModelVariant, trained: Path) -> ModelVariant:
    """The variant after a training that began at `start` and wrote `trained`: an adapter or full weights."""
    return ModelVariant(start.base, trained) if is_adapter(trained) else ModelVariant(trained, None)


def variants_of(models: Mapping[str, Path]) -> dict[ModelName, ModelVariant]:
    """The variants that trained models make: base always, sft and dpo where they were trained.

    Args:
        models: folder of each trained model, by stage.
    """
    variants: dict[ModelName, ModelVariant] = {"base": ModelVariant()}
    if "sft" in models:
        variants["sft"] = variant_after(variants["base"], models["sft"])
    if "dpo" in models:
        variants["dpo"] = variant_after(dpo_start(variants), models["dpo"])
    return variants


def reference_name(variants: Mapping[ModelName, ModelVariant]) -> ModelName:
    """Name of the variant that DPO starts from and that is its reference: SFT where there is one, else the base."""
    return "sft" if "sft" in variants else "base"


def dpo_start(variants: Mapping[ModelName, ModelVariant]) -> ModelVariant:
    """The variant that DPO starts from and that is its reference."""
    return variants[reference_name(variants)]


class VariantLoader:
    """Loads the model of any variant, switching adapters where the base weights are the same."""

    def __init__(self, section: ModelSection, folder: Path, variants: Mapping[ModelName, ModelVariant]) -> None:
        self._section, self._folder, self._variants = section, folder, variants
        self._base: Path | None = None
        self._model: PreTrainedModel | PeftModel | None = None
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(section, folder)

    @contextmanager
    def use(self, name: ModelName) -> Iterator[PreTrainedModel | PeftModel]:
        """The model of variant `name`, in evaluation mode, for the duration of the block."""
        variant = self._variants[name]
        model = self._weights(variant.base)
        if variant.adapter is not None:
            model = self._with_adapter(name, variant.adapter)
            model.set_adapter(name)
            yield model
        elif isinstance(model, PeftModel):
            with model.disable_adapter():
                yield model
        else:
            yield model

    def groups(self) -> list[list[ModelName]]:
        """The names of the variants that share base weights, group by group."""
        by_base: dict[Path | None, list[ModelName]] = {}
        for name, variant in self._variants.items():
            by_base.setdefault(variant.base, []).append(name)
        return list(by_base.values())

    def together(self, names: Sequence[ModelName]) -> tuple[PreTrainedModel | PeftModel, dict[ModelName, str]]:
        """The model of variants that share base weights with all their adapters loaded, and each variant's adapter.

        Its rows choose their adapter by PEFT's `adapter_names`.
        """
        model = self._weights(self._variants[names[0]].base)
        adapters: dict[ModelName, str] = {}
        for name in names:
            adapter = self._variants[name].adapter
            adapters[name] = NO_ADAPTER if adapter is None else name
            if adapter is not None:
                model = self._with_adapter(name, adapter)
        return model, adapters

    def _weights(self, base: Path | None) -> PreTrainedModel | PeftModel:
        if self._model is None or base != self._base:
            self._model = None
            gc.collect()  # never two sets of base weights at once
            self._model = load_base(self._section, self._folder, str(base) if base else None)
            self._base = base
        return self._model

    def _with_adapter(self, name: ModelName, folder: Path) -> PeftModel:
        if not isinstance(self._model, PeftModel):
            assert self._model is not None
            self._model = load_adapter(self._model, folder, name=name)
        elif name not in self._model.peft_config:
            with adapter_errors(folder):
                self._model.load_adapter(str(folder), adapter_name=name)
        self._model.eval()
        return self._model
