"""What transformers' own generate gives, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from fairlead.models.generation import CompletionRequest, row_seed
from fairlead.models.token_sampling import GumbelNoise
from fairlead.records import Prompt, Sampling


@torch.inference_mode()
def by_generate(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int, batch_size: int = 4
) -> list[str]:
    """One text per prompt: greedy, or with the noise of each prompt's own stream, batch by batch as they come."""
    texts: list[str] = []
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        turns = [[{"role": m.role, "content": m.content} for m in prompt.messages] for prompt in batch]
        encoded = tokenizer.apply_chat_template(turns, tokenize=True, add_generation_prompt=True, return_dict=True)
        inputs = tokenizer.pad({"input_ids": encoded["input_ids"]}, padding_side="left", return_tensors="pt")
        warpers = []
        if sampling.temperature > 0:
            warpers = [TemperatureLogitsWarper(float(sampling.temperature)), TopPLogitsWarper(sampling.top_p)]
            warpers.append(GumbelNoise([row_seed(seed, CompletionRequest(prompt, sampling)) for prompt in batch]))
        output = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            logits_processor=LogitsProcessorList(warpers),
        )
        answers = output[:, inputs["input_ids"].shape[1] :]
        texts += tokenizer.batch_decode(answers, skip_special_tokens=True)
    return texts
