"""The reference of DPO: the identity of its weights, and its log-probabilities kept row by row.

The reference is the model that DPO starts from. Its identity is a hash of what it computes with: the base weights, the
adapter it begins with if there is one, and the parts of the config that shape the computation. β, the learning rate,
the seed, the rank of a new adapter and the output folder are no part of it, so a sweep pays for one reference pass.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from peft import LoraConfig, PeftModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from fairlead.errors import DataError
from fairlead.files import disk_errors
from fairlead.training.trl_compat import lora_matrix, without_peft_names

CODE_VERSION = "1"
"""Changes whenever the same weights and tokens would give other log-probabilities."""

# What a config says about files, tokens and generation, not about the function from tokens to log-probabilities.
_NOT_COMPUTED_WITH = (
    "_name_or_path",
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "router_aux_loss_coef",
    "return_dict",
    "gradient_checkpointing",
)
# The same of an adapter's config; which modules it is on, its tensors' names tell.
_NOT_ADAPTING = (
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "lora_dropout",
    "rank_dropout",
    "module_dropout",
    "init_lora_weights",
    "init_weights",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
)


class ReferenceWeights:
    """The tensors that the reference computes with, and their hash."""

    def __init__(self, model: nn.Module, adapter: str | None) -> None:
        """Takes the reference out of a model.

        Args:
            model: a model, or a PEFT model.
            adapter: which adapter belongs to the reference; None for none, the bare base.
        """
        self._model, self._named_adapter = model, adapter

    @property
    def adapter(self) -> str | None:
        """The adapter that the reference computes with; None for the bare base, also where the adapter adds nothing."""
        name = self._named_adapter
        return None if name is None or _adds_nothing(self._model, name) else name

    @property
    def trained(self) -> bool:
        """Whether the policy's training moves the reference, as LoRA's `bias` moves the base's."""
        return any(tensor.requires_grad for _, tensor in _reference_tensors(self._model, self.adapter))

    def hash(self) -> str | None:
        """16 hex digits; None where the tensors are sharded over processes."""
        adapter = self.adapter
        tensors = dict(_reference_tensors(self._model, adapter))
        if any(isinstance(tensor, DTensor) or not tensor.numel() for tensor in tensors.values()):
            return None
        # Read anew each time: a write through `.data`, as PEFT merges, leaves no other trace.
        with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
            digests = dict(zip(tensors, pool.map(_digest, tensors.values()), strict=True))
        text = json.dumps([_function_of(self._model, adapter), sorted(digests.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _reference_tensors(model: nn.Module, adapter: str | None) -> Iterator[tuple[str, Tensor]]:
    """The reference's tensors by names that do not depend on PEFT's wrapping."""
    adapters = set(model.peft_config) if isinstance(model, PeftModel) else set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        plain, owner = without_peft_names(name, adapters)
        if owner is None or owner == adapter:
            yield plain, tensor


def _digest(tensor: Tensor) -> str:
    """The 128-bit XXH3 hash, which detects accidental changes and reads weights at the speed of memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest = xxhash.xxh3_128(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _adds_nothing(model: nn.Module, adapter: str) -> bool:
    """Whether a LoRA adapter is as fresh as it was made: B = 0, so that the model computes what its base does.

    Whatever its seed and rank, it has the same reference then.
    """
    assert isinstance(model, PeftModel)
    config = model.peft_config[adapter]
    if not isinstance(config, LoraConfig) or config.bias != "none":
        return False
    tensors = {name: tensor for name, tensor in model.named_parameters() if adapter in name.split(".")}
    matrices_b = [tensor for name, tensor in tensors.items() if lora_matrix(name) == "B"]
    readable = all(tensor.numel() and not isinstance(tensor, DTensor) for tensor in matrices_b)
    plain_lora = bool(matrices_b) and all(lora_matrix(name) for name in tensors)
    return readable and plain_lora and not any(bool(tensor.any()) for tensor in matrices_b)


def _function_of(model: nn.Module, adapter: str | None) -> dict[str, Any]:
    """What besides the tensors decides the computation."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    config: Any = base.config
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    identity = {"config": {key: value for key, value in values.items() if key not in _NOT_COMPUTED_WITH}}
    if isinstance(model, PeftModel) and adapter is not None:
        settings = model.peft_config[adapter].to_dict()
        identity["adapter"] = {key: str(value) for key, value in settings.items() if key not in _NOT_ADAPTING}
    return identity


def row_key(tokens: Sequence[int], scored: Sequence[int]) -> str:
    """Identity of a tokenised row: its tokens, and which of them are scored."""
    digest = hashlib.sha256(np.asarray(tokens, dtype=np.int64).tobytes())
    digest.update(np.asarray(scored, dtype=np.uint8).tobytes())
    return digest.hexdigest()[:32]


class ReferenceCache:
    """Log-probabilities of scored tokens, by (reference, row), in an SQLite file that grows as they are computed.

    Several processes may share one file. What was written before a kill is there afterwards.
    """

    def __init__(self, path: Path | None, reference: str) -> None:
        """Opens or creates the cache.

        Args:
            path: the file; None keeps everything in memory.
            reference: hash of the reference's weights and version of the code that computes with them.

        Raises:
            DataError: if the file is not such a cache.
        """
        self._reference, self._path = reference, path
        where = ":memory:" if path is None else str(path)
        if path is not None:
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(where, timeout=60.0, check_same_thread=False)
            with self._db:
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS log_probs "
                    "(reference TEXT, row TEXT, float32 BLOB NOT NULL, PRIMARY KEY (reference, row)) WITHOUT ROWID"
                )
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"not a cache of reference log-probabilities ({error})", where=where, remedy="delete the file"
            ) from error

    def get(self, rows: Iterable[str]) -> dict[str, Tensor]:
        """[scored tokens] log-probabilities of the rows that are known."""
        log_probs = {}
        with closing(self._db.cursor()) as cursor:
            for row in dict.fromkeys(rows):
                cursor.execute("SELECT float32 FROM log_probs WHERE reference = ? AND row = ?", (self._reference, row))
                if (hit := cursor.fetchone()) is not None:
                    log_probs[row] = torch.from_numpy(np.frombuffer(hit[0], dtype="<f4").copy())
        return log_probs

    def put(self, values: Mapping[str, Tensor]) -> None:
        """Keeps rows at once."""
        rows = [(self._reference, row, value.numpy().astype("<f4").tobytes()) for row, value in values.items()]
        with disk_errors(self._path or Path(":memory:")), self._db:
            self._db.executemany("INSERT OR REPLACE INTO log_probs VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        self._db.close()


def pair_log_probs(chosen: Tensor, rejected: Tensor, ld_alpha: float | None) -> tuple[float, float]:
    """Sums over a pair's completions, as the trainer compares them.

    With `ld_alpha` the tokens beyond the shorter completion's length count α (LD-DPO, arXiv 2409.06411).

    Args:
        chosen, rejected: [tokens] log-probabilities.
    """
    if ld_alpha is None:
        return float(chosen.sum()), float(rejected.sum())
    shared = min(len(chosen), len(rejected))
    chosen_sum, rejected_sum = (
        float(log_probs[:shared].sum() + ld_alpha * log_probs[shared:].sum()) for log_probs in (chosen, rejected)
    )
    return chosen_sum, rejected_sum
