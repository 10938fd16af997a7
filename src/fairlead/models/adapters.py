"""Base, SFT and DPO as views: which base weights each has, and which adapter lies on them.

With LoRA all three share one set of base weights and differ in the adapter that is switched on. With full weights
each is a model of its own. Either way `Views` gives the model of a view, holding one set of base weights at a time.
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
from fairlead.models.continuous_batching import BARE
from fairlead.models.loading import load_adapter, load_base, load_tokenizer
from fairlead.pipeline.artifacts import Artifact

ViewName = Literal["base", "sft", "dpo"]


@dataclass(frozen=True)
class View:
    """Where a model's weights are.

    Attributes:
        base: folder of full weights; None is the base model of the config.
        adapter: folder of a LoRA adapter on them; None is the bare weights.
    """

    base: Path | None = None
    adapter: Path | None = None


def is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def view_on(start: View, trained: Path) -> View:
    """The view after a training that began at `start` and wrote `trained`: an adapter or full weights."""
    return View(start.base, trained) if is_adapter(trained) else View(trained, None)


def views_of(inputs: Mapping[str, Artifact]) -> dict[ViewName, View]:
    """The views that the artifacts at hand make: base always, sft and dpo where they were trained."""
    views: dict[ViewName, View] = {"base": View()}
    if "sft" in inputs:
        views["sft"] = view_on(views["base"], inputs["sft"].file("model"))
    if "dpo" in inputs:
        views["dpo"] = view_on(start_of(views), inputs["dpo"].file("model"))
    return views


def start_of(views: Mapping[ViewName, View]) -> View:
    """The model that DPO starts from and that is its reference: SFT where there is one, else the base."""
    return views.get("sft", views["base"])


class Views:
    """Gives the model of any view, switching adapters where the base weights are the same."""

    def __init__(self, section: ModelSection, folder: Path, views: Mapping[ViewName, View]) -> None:
        self._section, self._folder, self._views = section, folder, views
        self._base: Path | None = None
        self._model: PreTrainedModel | PeftModel | None = None
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(section, folder)
        self.tokenizer.padding_side = "left"  # generation continues at the right end

    @contextmanager
    def use(self, name: ViewName) -> Iterator[PreTrainedModel | PeftModel]:
        """The model of view `name`, in evaluation mode, for the duration of the block."""
        view = self._views[name]
        model = self._weights(view.base)
        if view.adapter is not None:
            model = self._with_adapter(name, view.adapter)
            model.set_adapter(name)
            yield model
        elif isinstance(model, PeftModel):
            with model.disable_adapter():
                yield model
        else:
            yield model

    def groups(self) -> list[list[ViewName]]:
        """The views that share base weights, group by group."""
        found: dict[Path | None, list[ViewName]] = {}
        for name, view in self._views.items():
            found.setdefault(view.base, []).append(name)
        return list(found.values())

    def together(self, names: Sequence[ViewName]) -> tuple[PreTrainedModel | PeftModel, dict[ViewName, str]]:
        """The model of views that share base weights with all their adapters on it, and each view's adapter.

        Its rows choose their adapter by PEFT's `adapter_names`.
        """
        model = self._weights(self._views[names[0]].base)
        adapters: dict[ViewName, str] = {}
        for name in names:
            adapter = self._views[name].adapter
            adapters[name] = BARE if adapter is None else name
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

    def _with_adapter(self, name: ViewName, folder: Path) -> PeftModel:
        if not isinstance(self._model, PeftModel):
            assert self._model is not None
            self._model = load_adapter(self._model, folder, name=name)
        elif name not in self._model.peft_config:
            self._model.load_adapter(str(folder), adapter_name=name)
        self._model.eval()
        return self._model
