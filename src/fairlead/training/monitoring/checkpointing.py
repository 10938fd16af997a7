"""Keeps the weights with the largest validation gap inside a KL bound, and puts them into the model at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from fairlead.errors import TrainingError
from fairlead.files import read_json, write_json
from fairlead.training.measurements import Measurement

BEST = "best"


@dataclass(frozen=True)
class KeptWeights:
    """The weights that are kept.

    Attributes:
        gap: reward gap on the validation pairs.
        kl: nats per answer from the reference; None where it was not measured.
    """

    step: int
    gap: float
    kl: float | None


class CheckpointKeeper:
    """The best weights of one training; they lie in a file until the end.

    Args:
        model: returns the model that is trained.
        scratch: folder that a resumed run finds again.
        max_kl: nats per answer from the reference that kept weights may not exceed; no bound if None.

    Attributes:
        kept: the best weights so far; None where none were inside the bound.
    """

    def __init__(self, model: Callable[[], torch.nn.Module], scratch: Path, max_kl: float | None) -> None:
        self._model, self._folder, self._max_kl = model, scratch / BEST, max_kl
        self._outside: list[tuple[float, int]] = []  # (KL, step) of what was outside the bound
        self.kept: KeptWeights | None = None

    def take_up(self, step: int) -> None:
        """Takes over the weights that a killed run kept, unless they are of a later step than `step`."""
        record = self._folder / "best.json"
        if record.is_file():
            kept = KeptWeights(**read_json(record))
            self.kept = kept if kept.step <= step else None

    def consider(self, measurement: Measurement) -> None:
        """Keeps the present weights if they are inside the bound and better than those that are kept."""
        gap = measurement.validation.gap if measurement.validation is not None else None
        kl = measurement.samples.kl.kl if measurement.samples is not None else None
        if gap is None:
            return
        if self._max_kl is not None and (kl is None or kl > self._max_kl):
            self._outside += [] if kl is None else [(kl, measurement.step)]
        elif self.kept is None or gap > self.kept.gap:
            self._save(KeptWeights(measurement.step, gap, kl))

    def restore(self) -> None:
        """Puts the kept weights into the model.

        Raises:
            TrainingError: if none were inside the bound.
        """
        if self.kept is None:
            nearest = min(self._outside, default=None)
            smallest = "" if nearest is None else f"; the smallest was {nearest[0]:.3g} at step {nearest[1]}"
            raise TrainingError(
                f"no validation pass lay inside max_kl {self._max_kl or 0:g} nats per answer{smallest}",
                where="watch.max_kl",
                remedy="raise watch.max_kl or dpo.beta, lower dpo.learning_rate, or validate more often (eval_every)",
            )
        weights = load_file(self._file(self.kept.step))
        for name, tensor in trained_tensors(self._model()).items():
            tensor.copy_(weights[name])

    def _save(self, kept: KeptWeights) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        save_file(trained_tensors(self._model()), self._file(kept.step))
        write_json(self._folder / "best.json", asdict(kept))
        for old in self._folder.glob("weights-*.safetensors"):
            if old != self._file(kept.step):
                old.unlink()
        self.kept = kept

    def _file(self, step: int) -> Path:
        return self._folder / f"weights-{step}.safetensors"


def trained_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that the training moves, by name; those that share memory once."""
    seen: set[int] = set()
    tensors = {}
    for name, parameter in model.named_parameters():
        frozen_copy = isinstance(model, PeftModel) and ".ref." in name
        if parameter.requires_grad and not frozen_copy and parameter.data_ptr() not in seen:
            seen.add(parameter.data_ptr())
            tensors[name] = parameter.detach()
    return tensors
