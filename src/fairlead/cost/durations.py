"""How long the stages take on this machine, roughly: to tell minutes from days before anything starts.

Training and generation are counted in floating-point operations and in bytes of weights that are read, and this
machine's speed at both is measured in a fraction of a second.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fairlead.config.project import Config
from fairlead.config.training import DpoSection, SftSection
from fairlead.config.values.arms import EndpointArm
from fairlead.cost.decision_cost import candidate_count

_TRAINING_SHARE = 0.4  # of the speed of a large product that training reaches
_FLOPS_PER_WEIGHT = {"forward": 2, "training": 6}  # of one token
_SECONDS_PER_STEP = {"generation": 0.004, "training": 0.05}  # what a step takes however small the model is
_SECONDS_PER_STAGE = 2.0  # to load a model
_MEASURED_SECONDS = 0.1


@dataclass(frozen=True)
class Speed:
    """Floating-point operations, and bytes of memory read, in a second."""

    flops: float
    bytes_read: float


@dataclass(frozen=True)
class Sizes:
    """How much the stages have to work on.

    Attributes:
        sft, prompts, pairs, eval, dev: rows.
        prompt_tokens, answer_tokens: of one row, on average.
        completions: of one prompt.
    """

    sft: int
    prompts: int
    pairs: int
    eval: int
    dev: int
    prompt_tokens: float
    answer_tokens: float
    completions: int


def measure_speed(dtype_name: str) -> Speed:
    """The speed of this machine's device at large products and at copies."""
    import torch

    from fairlead.models.hardware import device, resolve_dtype

    on = device()
    dtype = resolve_dtype(dtype_name, on)
    side = 512 if on.type == "cpu" else 4096
    matrix = torch.ones(side, side, dtype=dtype, device=on)
    many = torch.ones(8 * side * side, dtype=dtype, device=on)
    flops = 2 * side**3 / _seconds_of(lambda: matrix @ matrix)
    bytes_read = 2 * many.numel() * many.element_size() / _seconds_of(many.clone)
    return Speed(flops, bytes_read)


def _seconds_of(work: Callable[[], Any]) -> float:
    """Seconds of one call, which ends when its result can be read."""
    work().flatten()[0].item()
    calls, started = 0, time.perf_counter()
    while True:
        work().flatten()[0].item()
        calls += 1
        if (seconds := time.perf_counter() - started) > _MEASURED_SECONDS:
            return seconds / calls


def stage_seconds(stage: str, config: Config, sizes: Sizes, parameters: int, speed: Speed) -> float:
    """Rough seconds of a stage; 0 for stages that load no model."""
    seconds = _work(stage, config, sizes, parameters, speed)
    return seconds + _SECONDS_PER_STAGE if seconds else 0.0


def _work(stage: str, config: Config, sizes: Sizes, parameters: int, speed: Speed) -> float:
    row = sizes.prompt_tokens + sizes.answer_tokens
    models = 2 if config.sft is None else 3

    def generated(answers: float, batch_size: int, prompts: float | None = None) -> float:
        reading = (answers if prompts is None else prompts) * sizes.prompt_tokens
        prefill = reading * parameters * _FLOPS_PER_WEIGHT["forward"] / (speed.flops * _TRAINING_SHARE)
        return prefill + _generation(answers, sizes.answer_tokens, batch_size, parameters, speed)

    match stage:
        case "decide" if config.decide.waive is None:
            return generated(sizes.dev * candidate_count(config.decide), config.answers.batch_size)
        case "sft" if isinstance(config.sft, SftSection):
            rows = sizes.sft * config.sft.epochs
            return _training(rows * row, rows / config.sft.batch_size, parameters, speed)
        case "sample":
            return generated(sizes.prompts * sizes.completions, config.sample.batch_size, prompts=sizes.prompts)
        case "dpo" if isinstance(config.dpo, DpoSection):
            rows = sizes.pairs * config.dpo.epochs
            reference = sizes.pairs * 2 * row * _FLOPS_PER_WEIGHT["forward"] * parameters / speed.flops
            return reference + _training(rows * 2 * row, rows / config.dpo.batch_size, parameters, speed)
        case "answers":
            prompts = sizes.eval * models
            return generated(prompts * config.answers.per_prompt, config.answers.batch_size, prompts=prompts)
        case "arms":
            here = sum(not isinstance(arm, EndpointArm) for arm in config.arms)
            return generated(sizes.eval * here * config.answers.per_prompt, config.answers.batch_size)
        case "probe" if config.probe is not None:
            return generated(min(config.probe.kl_prompts, sizes.eval), config.probe.batch_size)
    return 0.0


def _training(tokens: float, steps: float, parameters: int, speed: Speed) -> float:
    flops = tokens * parameters * _FLOPS_PER_WEIGHT["training"]
    return flops / (speed.flops * _TRAINING_SHARE) + steps * _SECONDS_PER_STEP["training"]


def _generation(answers: float, tokens: float, batch_size: int, parameters: int, speed: Speed) -> float:
    """Every step reads all weights and computes one token for every row of the batch."""
    if not answers:
        return 0.0
    rows = min(answers, batch_size)
    steps = math.ceil(answers / batch_size) * tokens
    reading = parameters * 2 / speed.bytes_read
    computing = rows * parameters * _FLOPS_PER_WEIGHT["forward"] / (speed.flops * _TRAINING_SHARE)
    return steps * (max(reading, computing) + _SECONDS_PER_STEP["generation"])
