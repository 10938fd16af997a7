"""What the diagnosis has to know of a training before its first step, as one flat row of the log."""

from __future__ import annotations

import math
import statistics
from typing import Any

from peft import PeftModel

from fairlead.training.monitoring.policy_samples import PolicySamples

_SWAPPED_PAIRS = 16  # pairs whose answers are scored after another pair's prompt
_STEPS_SHARE = 10  # and no more than one for so many pairs of the training, or they would cost too much of its time


def run_facts(trainer: Any) -> dict[str, Any]:
    """Settings, the pairs' lengths, and what the reference thinks of them."""
    rows, args = trainer.train_dataset, trainer.args
    chosen, rejected = [list(map(len, rows[f"{side}_ids"])) for side in ("chosen", "rejected")]
    differing = [c > r for c, r in zip(chosen, rejected, strict=True) if c != r]
    facts: dict[str, Any] = {
        "run/beta": trainer.beta,
        "run/learning_rate": args.learning_rate,
        "run/epochs": args.num_train_epochs,
        "run/max_grad_norm": args.max_grad_norm,
        "run/loss_type": ",".join(trainer.loss_types),
        "run/pairs": len(rows),
        "run/validation_pairs": len(trainer.eval_dataset) if trainer.eval_dataset is not None else 0,
        "run/chosen_tokens": sum(chosen) / len(chosen),
        "run/rejected_tokens": sum(rejected) / len(rejected),
        "run/chosen_longer": sum(differing) / len(differing) if differing else None,
        "run/unequal_lengths": len(differing),
        "run/label_noise": "measured" if "pair_error" in rows.column_names else "none",
    }
    if "ref_chosen_logps" in rows.column_names:
        facts["run/reference_nats"] = -sum(rows["ref_chosen_logps"]) / sum(chosen)
        facts["run/reference_nats_rejected"] = -sum(rows["ref_rejected_logps"]) / sum(rejected)
    return facts | _adapter(trainer)


def _adapter(trainer: Any) -> dict[str, Any]:
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=True)
    facts: dict[str, Any] = {"run/dtype": str(model.dtype).removeprefix("torch."), "run/method": "full"}
    if isinstance(model, PeftModel):
        config = model.peft_config["default"]
        facts |= {
            "run/method": "lora",
            "run/rank": getattr(config, "r", None),
            "run/dropout": getattr(config, "lora_dropout", None),
        }
    return facts


def format_facts(trainer: Any, samples: PolicySamples, steps: int, *, whatever_it_costs: bool) -> dict[str, float]:
    """What the answer's own prompt is worth under the reference, in nats per token, against another pair's.

    With its standard error over the pairs.
    """
    dataset, args = trainer.train_dataset, trainer.args
    trained = steps * args.train_batch_size * args.gradient_accumulation_steps
    count = _SWAPPED_PAIRS if whatever_it_costs else min(_SWAPPED_PAIRS, trained // _STEPS_SHARE)
    rows = dataset.select(range(min(count, len(dataset))))
    prompts, answers = [list(p) for p in rows["prompt_ids"]], [list(a) for a in rows["chosen_ids"]]
    if len({tuple(p) for p in prompts}) < 2:
        return {}
    own = samples.reference_log_probs(prompts, answers)
    other = samples.reference_log_probs(prompts[1:] + prompts[:1], answers)
    tokens = sum(map(len, own))
    gains = [float(x.sum() - y.sum()) for x, y in zip(own, other, strict=True)]
    return {
        "run/prompt_gain": sum(gains) / tokens,
        "run/prompt_gain_error": statistics.stdev(gains) * math.sqrt(len(gains)) / tokens,
    }
