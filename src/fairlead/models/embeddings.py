"""Embeddings of texts by an encoder on this machine: the mean of the last hidden states, of length one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from fairlead.config.decide import EmbeddingSettings
from fairlead.errors import ModelError
from fairlead.models import hardware
from fairlead.models.loading import locate

_MOST_TOKENS = 512


class Encoder:
    """An encoder; the same text is encoded once.

    Raises:
        ModelError: if it cannot be loaded.
    """

    def __init__(self, settings: EmbeddingSettings, folder: Path) -> None:
        name = locate(settings.model, folder)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name)
            self._model: Any = AutoModel.from_pretrained(name, use_safetensors=True).to(hardware.device()).eval()
        except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"cannot be loaded: {first[:300]}", where=name, remedy="correct decide.embedding"
            ) from error
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        context = getattr(self._model.config, "max_position_embeddings", None)
        self._limit = min(_MOST_TOKENS, int(context)) if context else _MOST_TOKENS
        self._settings = settings
        self._known: dict[str, NDArray[np.float64]] = {}

    def __call__(self, texts: Sequence[str], searching: bool) -> NDArray[np.float64]:
        """One unit vector per text, shape (texts, dimension)."""
        prefix = self._settings.query_prefix if searching else self._settings.passage_prefix
        prefixed = [prefix + text for text in texts]
        new = sorted({text for text in prefixed if text not in self._known}, key=lambda t: (len(t), t))
        for start in range(0, len(new), self._settings.batch_size):
            batch = new[start : start + self._settings.batch_size]
            self._known.update(zip(batch, self._encode(batch), strict=True))
        return np.stack([self._known[text] for text in prefixed])

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> NDArray[np.float64]:
        batch = self._tokenizer(texts, padding=True, truncation=True, max_length=self._limit, return_tensors="pt")
        batch = {key: batch[key].to(self._model.device) for key in ("input_ids", "attention_mask")}
        hidden = self._model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1).float()
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        vectors: NDArray[np.float64] = torch.nn.functional.normalize(mean, dim=-1).cpu().double().numpy()
        return vectors
