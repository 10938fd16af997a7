"""Base, SFT and DPO as views: which base weights each has, and which adapter lies on them.

With LoRA all three share one set of base weights and differ in the adapter that is switched on. With full weights
each is a model of its own. Either way `Views` gives the model of a view, holding one set of base weights at a time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fairlead.artifacts import Artifact
from fairlead.config import ModelSection
from fairlead.models.loading import load_adapter, load_base, load_tokenizer

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
        if self._model is None or view.base != self._base:
            self._model = None
            gc.collect()  # never two sets of base weights at once
            self._model = load_base(self._section, self._folder, str(view.base) if view.base else None)
            self._base = view.base
        if view.adapter is None:
            if isinstance(self._model, PeftModel):
                with self._model.disable_adapter():
                    yield self._model
            else:
                yield self._model
            return
        if not isinstance(self._model, PeftModel):
            self._model = load_adapter(self._model, view.adapter, name=name)
        elif name not in self._model.peft_config:
            self._model.load_adapter(str(view.adapter), adapter_name=name)
        self._model.set_adapter(name)
        self._model.eval()
        yield self._model
