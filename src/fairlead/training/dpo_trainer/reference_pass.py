"""The reference pass: the reference's log-probabilities of every pair, computed once per row and stored.

Rows are kept as they are computed, by the content of the reference and of the row. Neither a kill nor another β,
learning rate, seed or output folder repeats the pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftModel
from torch import Tensor

from fairlead.training.dpo_trainer.reference import (
    CODE_VERSION,
    ReferenceCache,
    ReferenceWeights,
    pair_log_probs,
    row_key,
)
from fairlead.training.trl_compat import (
    OpenDPOTrainer,
    adapter_in_use,
    scored_log_probs,
    without_checkpointing,
)

Row = tuple[list[int], list[bool]]  # tokens of prompt and completion, and which of them are scored
Progress = Callable[[Sequence[Any], str], Iterable[Any]]
"""Given the batches of a pass and what it is, yields them."""


class ReferencePass:
    """Computes what is not known yet of the reference's log-probabilities.

    Attributes:
        rows: how many rows were computed, and how many were known already.
    """

    def __init__(
        self, trainer: OpenDPOTrainer, weights: ReferenceWeights, reference: str, cache: Path, progress: Progress
    ) -> None:
        """Prepares the pass of one trainer.

        Args:
            reference: hash of the weights.
            cache: SQLite file that keeps the rows.
        """
        self._trainer, self._weights, self._cache, self._progress = trainer, weights, cache, progress
        # The precision that the rows are computed in decides the figures too.
        self._identity = f"{reference}/{CODE_VERSION}/{trainer.accelerator.mixed_precision}"
        self.rows = {"computed": 0, "known": 0}

    def add_columns(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Adds the columns that TRL reads the reference's log-probabilities from.

        Args:
            name: what the progress bar calls the data set.
            batch_size: rows computed at once.
        """
        pairs = list(self._rows_of(dataset))
        cache = ReferenceCache(self._cache, self._identity)
        try:
            log_probs = self._log_probs({row_key(*row): row for pair in pairs for row in pair}, cache, batch_size, name)
        finally:
            cache.close()
        sums = [
            pair_log_probs(log_probs[row_key(*chosen)], log_probs[row_key(*rejected)], self._trainer.ld_alpha)
            for chosen, rejected in pairs
        ]
        columns = {"ref_chosen_logps": [c for c, _ in sums], "ref_rejected_logps": [r for _, r in sums]}
        dataset = dataset.remove_columns([column for column in columns if column in dataset.column_names])
        for column, values in columns.items():
            dataset = dataset.add_column(column, values)
        return dataset

    def _rows_of(self, dataset: Dataset) -> Iterator[tuple[Row, Row]]:
        """Each pair's chosen and rejected row as the collator cuts them."""
        for example in dataset:
            chosen, rejected = pair_rows(self._trainer.data_collator([example]))
            yield chosen, rejected

    def _log_probs(self, rows: dict[str, Row], cache: ReferenceCache, batch_size: int, name: str) -> dict[str, Tensor]:
        """[scored tokens] log-probabilities of every row, by key; the work is shared out among the processes."""
        accelerator = self._trainer.accelerator
        values = cache.get(rows)
        # A process that reads late may know rows that another has just written; all must share out the same work.
        known = set.intersection(*map(set, gather_object([list(values)])))
        missing = [key for key in rows if key not in known]
        self.rows["known"] += len(known)
        self.rows["computed"] += len(missing)
        share = -(-len(missing) // accelerator.num_processes)
        first = share * accelerator.process_index
        ours = missing[first : first + share]
        batches = [ours[start : start + batch_size] for start in range(0, len(ours), batch_size)]
        adapter = self._weights.adapter  # asked for once, since it looks at the weights
        for keys in self._progress(batches, f"reference of the {name} pairs") if batches else []:
            computed = dict(zip(keys, self._forward([rows[key] for key in keys], adapter), strict=True))
            cache.put(computed)
            values.update(computed)
        if accelerator.num_processes > 1:
            for shared in gather_object([{key: values[key] for key in ours}]):
                values.update(shared)
        return values

    def _forward(self, rows: Sequence[Row], adapter: str | None) -> list[Tensor]:
        """One forward of the reference, without dropout; with an adapter of the policy or its bare base."""
        trainer = self._trainer
        model = trainer.ref_model if trainer.ref_model is not None else trainer.model
        unwrapped = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=True)
        reference: Any = contextlib.nullcontext()
        if trainer.ref_model is None and isinstance(unwrapped, PeftModel):
            reference = adapter_in_use(unwrapped, adapter)
        training = model.training
        model.eval()
        try:
            with (
                torch.no_grad(),
                without_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs),
                reference,
                trainer.accelerator.autocast(),
            ):
                return scored_log_probs(
                    model, rows, pad_id=int(trainer.tokenizer.pad_token_id), device=trainer.accelerator.device
                )
        finally:
            model.train(training)


def pair_rows(inputs: Mapping[str, Any]) -> Iterator[tuple[list[int], list[bool]]]:
    """Each row of a batch of TRL's collator without its padding: its tokens, and which of them are scored."""
    for ids, mask, scored in zip(
        inputs["input_ids"], inputs["attention_mask"].bool(), inputs["completion_mask"].bool(), strict=True
    ):
        yield ids[mask].tolist(), scored[mask].tolist()
