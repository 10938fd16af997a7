"""Embeddings of texts by a sentence-transformers model on this machine, of length one.

How a text becomes one vector differs between models (the first token's state, the last one's, their mean) and stands in
the model's own config, which sentence-transformers reads.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.config.decide import EmbeddingSettings
from fairlead.errors import ModelError
from fairlead.models import hardware
from fairlead.models.loading import locate

logger = logging.getLogger(__name__)


class Encoder:
    """An encoder; the same text is encoded once.

    Raises:
        ModelError: if it cannot be loaded, or sentence-transformers is not installed.
    """

    def __init__(self, settings: EmbeddingSettings, folder: Path) -> None:
        self._settings = settings
        self._model: Any = _load(locate(settings.model, folder))
        self._vectors: dict[tuple[str, bool], NDArray[np.float64]] = {}

    def __call__(self, texts: Sequence[str], searching: bool) -> NDArray[np.float64]:
        """One unit vector per text, shape (texts, dimension).

        Args:
            searching: whether the texts search; else they are searched. Models may put another prompt before each.
        """
        new = sorted({text for text in texts if (text, searching) not in self._vectors}, key=lambda t: (len(t), t))
        if new:
            encode = self._model.encode_query if searching else self._model.encode_document
            prefix = self._settings.query_prefix if searching else self._settings.passage_prefix
            vectors = encode(
                new,
                prompt=prefix or None,  # None: the prompt of the model's own config, if it has one
                batch_size=self._settings.batch_size,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
            keys = [(text, searching) for text in new]
            self._vectors.update(zip(keys, np.asarray(vectors, dtype=np.float64), strict=True))
        return np.stack([self._vectors[text, searching] for text in texts])


def _load(name: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.util import is_sentence_transformer_model
    except ImportError as error:
        raise ModelError(
            "embeddings need sentence-transformers, which is not installed",
            where="decide.embedding",
            remedy="pip install 'fairlead[embeddings]'",
        ) from error
    try:
        configured = is_sentence_transformer_model(name)
        model = SentenceTransformer(
            name,
            device=str(hardware.device()),
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except Exception as error:  # damaged files, unknown modules and missing networks raise whatever their readers raise
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"cannot be loaded: {first[:300]}", where=name, remedy="correct decide.embedding") from error
    if model.tokenizer.pad_token is None:
        model.tokenizer.pad_token = model.tokenizer.eos_token
    if not configured:
        logger.warning(
            "%s has no sentence-transformers config; as sentence-transformers does, its embedding is %s",
            name,
            _POOLING.get(_pooling(model), _pooling(model)),
        )
    return model


_POOLING = {"lasttoken": "the state of the last token", "mean": "the mean of the tokens' states"}


def _pooling(model: Any) -> str:
    """How the model makes one vector of a text."""
    modes = (getattr(module, "pooling_mode", None) for module in model)
    return next((mode for mode in modes if isinstance(mode, str)), "that of its last module")
