"""Facts about a training that the diagnosis needs, measured before the first step."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import Any

from peft import PeftModel

from fairlead.training.measurements import RunFacts
from fairlead.training.monitoring.policy_samples import PolicySamples

_SWAPPED_PAIRS = 16  # pairs whose answers are scored after another pair's prompt
_STEPS_SHARE = 10  # and no more than one for so many pairs of the training, or they would cost too much of its time


def run_facts(trainer: Any, *, steps: int, keep: str) -> RunFacts:
    """Settings, the pairs' lengths, and how probable the answers are to the reference.

    Args:
        trainer: a `fairlead.DPOTrainer` before its first step.
        steps: optimiser steps of the whole training.
        keep: which weights are kept, `watch.keep`.
    """
    rows, args = trainer.train_dataset, trainer.args
    chosen, rejected = [list(map(len, rows[f"{side}_ids"])) for side in ("chosen", "rejected")]
    differing = [c > r for c, r in zip(chosen, rejected, strict=True) if c != r]
    facts = RunFacts(
        steps=steps,
        keep=keep,
        beta=trainer.beta,
        learning_rate=args.learning_rate,
        epochs=args.num_train_epochs,
        max_grad_norm=args.max_grad_norm,
        loss_type=",".join(trainer.loss_types),
        pairs=len(rows),
        validation_pairs=len(trainer.eval_dataset) if trainer.eval_dataset is not None else 0,
        chosen_tokens=sum(chosen) / len(chosen),
        rejected_tokens=sum(rejected) / len(rejected),
        chosen_longer=sum(differing) / len(differing) if differing else None,
        unequal_lengths=len(differing),
        label_noise="measured" if "pair_error" in rows.column_names else "none",
    )
    if "ref_chosen_logps" in rows.column_names:
        facts = replace(
            facts,
            reference_nats=-sum(rows["ref_chosen_logps"]) / sum(chosen),
            reference_nats_rejected=-sum(rows["ref_rejected_logps"]) / sum(rejected),
        )
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=True)
    facts = replace(facts, dtype=str(model.dtype).removeprefix("torch."), method="full")
    if isinstance(model, PeftModel):
        config: Any = model.peft_config["default"]
        rank, dropout = getattr(config, "r", None), getattr(config, "lora_dropout", None)
        facts = replace(facts, method="lora", rank=rank, dropout=dropout)
    return facts


def with_prompt_gain(facts: RunFacts, trainer: Any, samples: PolicySamples, *, whatever_it_costs: bool) -> RunFacts:
    """The facts with what an answer's own prompt is worth under the reference, against another pair's.

    In nats per token, with its standard error over the pairs; not measured where all prompts are the same.
    """
    dataset, args = trainer.train_dataset, trainer.args
    trained = int(facts.steps or 0) * args.train_batch_size * args.gradient_accumulation_steps
    count = _SWAPPED_PAIRS if whatever_it_costs else min(_SWAPPED_PAIRS, trained // _STEPS_SHARE)
    rows = dataset.select(range(min(count, len(dataset))))
    prompts, answers = [list(p) for p in rows["prompt_ids"]], [list(a) for a in rows["chosen_ids"]]
    if len({tuple(p) for p in prompts}) < 2:
        return facts
    log_probs = samples.reference_log_probs(prompts, answers)
    other = samples.reference_log_probs(prompts[1:] + prompts[:1], answers)
    tokens = sum(map(len, log_probs))
    gains = [float(x.sum() - y.sum()) for x, y in zip(log_probs, other, strict=True)]
    return replace(
        facts,
        prompt_gain=sum(gains) / tokens,
        prompt_gain_error=statistics.stdev(gains) * math.sqrt(len(gains)) / tokens,
    )
