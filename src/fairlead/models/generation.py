"""Generation: prompts in, completions out, the same text for the same seed.

Every completion has its own random stream, seeded by (seed, prompt, draw): a token is drawn by the Gumbel-max trick
(argmax of log-probabilities plus Gumbel noise is a sample of their softmax), so no completion depends on which others
share its batch. Prompts are worked in fixed chunks, so a resumed run forms the same batches.

Knows nothing of preferences, judges or stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from transformers import (
    AutoConfig,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from fairlead.errors import ModelError
from fairlead.records import Completion, Prompt, Sampling, content_id


@dataclass(frozen=True)
class Request:
    """One completion to draw."""

    prompt: Prompt
    sampling: Sampling
    index: int = 0


RequestT = TypeVar("RequestT", bound=Request, contravariant=True)


class Generator(Protocol[RequestT]):
    """Draws completions, in the order of the requests."""

    def generate(self, requests: Sequence[RequestT], *, seed: int) -> Iterator[Completion]: ...


class GumbelNoise(LogitsProcessor):
    """Adds Gumbel(0, 1) noise from one generator per row, so that greedy decoding samples.

    Source: Gumbel (1954); Maddison, Tarlow and Minka, "A* Sampling" (2014), section 2.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """scores: (rows, vocabulary) logits, -inf where a token is ruled out."""
        del input_ids
        return self.add(scores, range(len(self._generators)))  # type: ignore[return-value]

    def add(self, scores: torch.Tensor, streams: Sequence[int]) -> torch.Tensor:
        """The same for rows that are only some of the streams, in any order."""
        noise = torch.empty(scores.shape, dtype=torch.float32)
        for row, stream in zip(noise, streams, strict=True):
            row.exponential_(generator=self._generators[stream])
        return scores - noise.log_().to(scores.device)


class TransformersGenerator:
    """The default engine: `model.generate` in batches, the longest prompts together.

    Args:
        model: a causal LM in evaluation mode.
        tokenizer: with a chat template, a pad token and left padding.
        name: the view that answers, written into every completion.
        batch_size: completions per batch.
        advance: called with the number of finished completions after every batch.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        batch_size: int,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        self._model, self._tokenizer, self._name = model, tokenizer, name
        self._batch_size, self._advance = batch_size, advance

    def generate(self, requests: Sequence[Request], *, seed: int) -> Iterator[Completion]:
        """Yields one completion per request, in order.

        Raises:
            ModelError: if a prompt leaves no room for an answer in the model's context.
        """
        encoded = [encode(request, self._model, self._tokenizer) for request in requests]
        groups: dict[Sampling, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(request.sampling, []).append(number)
        done: dict[int, Completion] = {}
        for sampling, members in groups.items():
            members.sort(key=lambda n: len(encoded[n]))  # rows of like length waste least on padding
            for start in range(0, len(members), self._batch_size):
                batch = members[start : start + self._batch_size]
                seeds = [row_seed(seed, requests[n]) for n in batch]
                texts = self._batch([encoded[n] for n in batch], sampling, seeds)
                for n, seed_of_row, (text, tokens, stopped) in zip(batch, seeds, texts, strict=True):
                    done[n] = Completion(
                        prompt_id=requests[n].prompt.id,
                        text=text,
                        model=self._name,
                        sampling=sampling,
                        index=requests[n].index,
                        seed=seed_of_row,
                        finish="stop" if stopped else "length",
                        tokens=tokens,
                    )
                if self._advance:
                    self._advance(len(batch))
        yield from (done[n] for n in range(len(requests)))

    @torch.inference_mode()
    def _batch(self, rows: list[list[int]], sampling: Sampling, seeds: Sequence[int]) -> list[tuple[str, int, bool]]:
        """(text, number of tokens, whether it ended by itself) of each row."""
        tokenizer = self._tokenizer
        batch = tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt")
        batch = {key: value.to(self._model.device) for key, value in batch.items()}
        ends = end_tokens(self._model, tokenizer)
        config = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,  # the policy itself, not what its repository would make of it
            eos_token_id=sorted(ends),
            pad_token_id=tokenizer.pad_token_id,
        )
        output = self._model.generate(
            **batch,
            generation_config=config,
            logits_processor=_processors(sampling, seeds),
        )
        answers = output[:, batch["input_ids"].shape[1] :].tolist()
        return [cut(answer, ends, tokenizer) for answer in answers]


def encode(request: Request, model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a prompt, ready for its answer.

    Raises:
        ModelError: if it leaves no room for the answer in the model's context.
    """
    messages = [{"role": m.role, "content": m.content} for m in request.prompt.messages]
    ids: list[int] = tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and len(ids) + request.sampling.max_new_tokens > limit:
        raise ModelError(
            f"a prompt of {len(ids)} tokens and max_new_tokens {request.sampling.max_new_tokens} exceed the "
            f"model's context of {limit}",
            where=f"prompt {request.prompt.id} ({request.prompt.text[:60]!r})",
            remedy="shorten the prompt or lower max_new_tokens",
        )
    return ids


def _processors(sampling: Sampling, seeds: Sequence[int]) -> LogitsProcessorList:
    if sampling.temperature == 0:
        return LogitsProcessorList()
    return LogitsProcessorList([*warpers(sampling), GumbelNoise(seeds)])


def warpers(sampling: Sampling) -> list[LogitsProcessor]:
    """What turns the model's logits into those of the sampled distribution; temperature above 0."""
    steps: list[LogitsProcessor] = [TemperatureLogitsWarper(float(sampling.temperature))]
    return [*steps, TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else steps


def cut(answer: list[int], ends: set[int], tokenizer: PreTrainedTokenizerBase) -> tuple[str, int, bool]:
    """An answer up to its first end token; what follows is padding."""
    for position, token in enumerate(answer):
        if token in ends:
            return tokenizer.decode(answer[:position], skip_special_tokens=True), position + 1, True
    return tokenizer.decode(answer, skip_special_tokens=True), len(answer), False


def end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Chat models often end a turn with a token that is not the tokenizer's end of sequence."""
    return _ends(model.generation_config, tokenizer)


def greedy_config(source: str, revision: str | None, tokenizer: PreTrainedTokenizerBase, most: int) -> GenerationConfig:
    """The rules by which answers are given here, for whoever loads the model without Fairlead: greedy and plain.

    Args:
        source: folder or hub id of the model, for the tokens that end its answers.
        most: new tokens at most.
    """
    at = {} if Path(source).is_dir() else {"revision": revision}
    try:
        declared = GenerationConfig.from_pretrained(source, **at)
    except OSError:  # as transformers does where a model has none
        declared = GenerationConfig.from_model_config(AutoConfig.from_pretrained(source, **at))
    return GenerationConfig(
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=most,
        eos_token_id=sorted(_ends(declared, tokenizer)),
        pad_token_id=tokenizer.pad_token_id,
    )


def _ends(config: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    declared = getattr(config, "eos_token_id", None)
    declared = [declared] if isinstance(declared, int) else list(declared or [])
    return {int(tokenizer.eos_token_id), *declared}


def row_seed(seed: int, request: Request) -> int:
    """Seed of one draw: independent of the batch, of the order, and of the other draws."""
    return int(content_id(seed, request.prompt.id, request.sampling.temperature, request.index), 16) % 2**63


def chunks(items: Sequence[Request], size: int) -> Iterable[Sequence[Request]]:
    """Fixed chunks: what a resumed run repeats is exactly one of them."""
    return (items[start : start + size] for start in range(0, len(items), size))
