"""`MonitoredDPOTrainer`: `fairlead.DPOTrainer` with margins of single pairs, and losses that know each pair's error.

TRL computes its loss and its metrics, which are means over the batch, from the log-probabilities that the model's
forward returns. This trainer keeps the forward's result on the way, so that single pairs can be told apart: in
validation for the interval of the margins and the share of pairs that the policy ranks wrongly although it is sure, in
training for `pair_error` and `pair_weight`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader

from fairlead.statistics.intervals import mean_interval
from fairlead.training.dpo_trainer.label_noise import ERROR, WEIGHT
from fairlead.training.dpo_trainer.loss import dpo_loss, margin
from fairlead.training.dpo_trainer.trainer import DPOTrainer


def confidently_wrong(margins: Sequence[float]) -> float | None:
    """Share of pairs with a negative margin among the half with the largest; None with fewer than two.

    Where labels are right, a policy that has learnt something is right about the pairs of which it is sure. Where they
    contradict each other, it is wrong about those as often as about any.
    """
    if len(margins) < 2:
        return None
    clearest = sorted(margins, key=abs)[len(margins) // 2 :]
    return sum(m < 0 for m in clearest) / len(clearest)


class MonitoredDPOTrainer(DPOTrainer):
    """A `fairlead.DPOTrainer` that logs `eval_rewards/confidently_wrong`.

    For training pairs with the columns `pair_error` and `pair_weight` (`label_noise.with_noise`) the loss is cDPO's, or
    the robust one under `loss_type: [robust]`, instead of TRL's.

    Attributes:
        pass_pairs: over how many of the validation pairs the next validation pass is; over all if None.
        passes: metrics of the validation passes over all pairs, by step.
    """

    data_collator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._margins: list[float] = []
        self.pass_pairs: int | None = None
        self.passes: dict[int, dict[str, float]] = {}
        super().__init__(*args, **kwargs)
        collate = self.data_collator

        def with_columns(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = collate(examples)
            for name in (ERROR, WEIGHT):
                if name in examples[0]:
                    batch[name] = torch.tensor([example[name] for example in examples])
            return batch

        self.data_collator = with_columns

    def columns_in_batches(self, columns: list[str]) -> list[str]:
        return [*dict.fromkeys([*super().columns_in_batches(columns), ERROR, WEIGHT])]

    def batch_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        inputs = dict(inputs)
        error, weight = inputs.pop(ERROR, None), inputs.pop(WEIGHT, None)
        captured: list[Tensor] = []

        def forward(*args: Any, **kwargs: Any) -> Any:
            outputs = model(*args, **kwargs)
            if getattr(outputs, "log_probs", None) is not None:
                captured.append(outputs.log_probs)
            return outputs

        result = super().batch_loss(forward, inputs, return_outputs)
        training = self.model.training
        if not captured or "ref_chosen_logps" not in inputs or (training and error is None):
            return result
        margins = self._pair_margins(captured[0], inputs)
        if not training:
            self._margins += self.accelerator.gather_for_metrics(margins.detach()).tolist()
            return result
        losses = dpo_loss(margins, error, robust=self.loss_types == ["robust"])
        loss = self.loss_weights[0] * (weight * losses).mean()
        return (loss, result[1]) if return_outputs else loss

    def _pair_margins(self, log_probs: Tensor, inputs: dict[str, Any]) -> Tensor:
        """[pairs] margin of each pair, from TRL's [2 · pairs, tokens] log-probabilities, chosen rows first."""
        mask = inputs["completion_mask"][..., 1:]
        chosen, rejected = log_probs[:, -mask.shape[1] :].sum(dim=1).chunk(2)
        return margin(chosen, rejected, inputs["ref_chosen_logps"], inputs["ref_rejected_logps"], self.beta)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        of_validation = eval_dataset is None or eval_dataset is self.eval_dataset
        loader: DataLoader[Any] = super().get_eval_dataloader(self._pairs_of_pass() if of_validation else eval_dataset)
        return loader

    def _pairs_of_pass(self) -> Any:
        """The validation pairs that a pass is over."""
        return self.eval_dataset if self.pass_pairs is None else self.eval_dataset.select(range(self.pass_pairs))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self._margins.clear()  # the trainer tests itself on a few rows before it starts
        # Every data loader draws a random number when it begins. Validation happens when the time budget allows it, so
        # without a fork the training that follows would have other dropout with one pass more or less.
        devices = [torch.cuda.current_device()] if self.accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            metrics = super().evaluate(*args, **kwargs)
        if args or kwargs.get("eval_dataset") is not None:
            return metrics
        metrics |= self._margin_interval(self._pairs_of_pass())
        if self.pass_pairs is None:
            self.passes[self.state.global_step] = metrics
        return metrics

    def _margin_interval(self, pairs: Dataset) -> dict[str, float]:
        """Ends of the 95 % interval of the reward gap, pairs of one prompt as a cluster, where they are defined."""
        if len(self._margins) != len(pairs):
            return {}
        interval = mean_interval(self._margins, [str(ids) for ids in pairs["prompt_ids"]])
        if interval.low is None or interval.high is None:
            return {}
        return {"eval_rewards/margins_low": interval.low, "eval_rewards/margins_high": interval.high}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if not self.model.training and self._margins:
            share = confidently_wrong(self._margins)
            if share is not None:
                self.batch_metrics("eval")["rewards/confidently_wrong"] = [share]
        super().log(logs, start_time)
