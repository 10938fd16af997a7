"""Generation: prompts in, completions out, the same text for the same seed.

`LocalGenerator` is the one engine on this machine. It decodes with continuous batching where the model allows it, and
with `model.generate` where not. Every completion has its own random stream, seeded by (seed, prompt, temperature,
draw), so its text depends neither on which others share its batch nor on how requests are cut into chunks.

Knows nothing of preferences, judges or stages.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from fairlead.config.model import ModelSection
from fairlead.errors import ModelError
from fairlead.models.batch_generate import generate_in_batches
from fairlead.models.chat import prompt_tokens
from fairlead.models.continuous_batching import DecodeRequest, decode, mixes_adapters, why_unsupported
from fairlead.records import Completion, Prompt, PromptVariant, Sampling, content_id

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompletionRequest:
    """One completion to draw.

    Attributes:
        index: number of this draw among those of its prompt.
        model: who answers: a model variant, or the name of the generator's only model.
        variant: what is asked of the model, for the record.
    """

    prompt: Prompt
    sampling: Sampling
    index: int = 0
    model: str = "base"
    variant: PromptVariant = "plain"


class Generator(Protocol):
    """Draws completions, in the order of the requests."""

    def generate(self, requests: Sequence[CompletionRequest], *, seed: int) -> Iterator[Completion]: ...


class ModelSource(Protocol):
    """Models by name, some of which share base weights: a `VariantLoader`, or a single model."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    def groups(self) -> Sequence[Sequence[Any]]:
        """Names of the models that share base weights, group by group."""

    def together(self, names: Sequence[Any]) -> tuple[Any, Mapping[Any, str]]:
        """The model of a group with all adapters loaded, and the adapter of each name."""

    def use(self, name: Any) -> AbstractContextManager[Any]:
        """The model of one name."""


class LocalGenerator:
    """Draws completions on this machine.

    Args:
        source: gives the models that requests name.
        batch_size: rows decoded at once, of all models that share base weights together.
        advance: called with the number of completions that have ended.
    """

    def __init__(
        self, source: ModelSource, *, batch_size: int, advance: Callable[[int], None] = lambda _: None
    ) -> None:
        self._source, self._batch_size, self._advance = source, batch_size, advance

    @classmethod
    def of(
        cls,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        batch_size: int,
        advance: Callable[[int], None] = lambda _: None,
    ) -> LocalGenerator:
        """A generator of one model that is loaded already, in evaluation mode; requests call it `name`."""
        return cls(_SingleModel(model, tokenizer, name), batch_size=batch_size, advance=advance)

    def generate(self, requests: Sequence[CompletionRequest], *, seed: int) -> Iterator[Completion]:
        """Yields one completion per request, in order.

        Raises:
            ModelError: if a prompt leaves no room for an answer in the model's context, or cannot be put into the
                chat template.
        """
        completions: dict[int, Completion] = {}
        for group in self._source.groups():
            members = [n for n, request in enumerate(requests) if request.model in group]
            if members:
                drawn = self._draw([requests[n] for n in members], seed)
                completions.update(zip(members, drawn, strict=True))
        yield from (completions[n] for n in range(len(requests)))

    def _draw(self, requests: Sequence[CompletionRequest], seed: int) -> list[Completion]:
        """Completions of models that share base weights: in one pass, or model by model where that cannot be."""
        names = list(dict.fromkeys(request.model for request in requests))
        if len(names) > 1:
            model, adapters = self._source.together(names)
            if why_unsupported(model) is None and mixes_adapters(model):
                return self._decode(model, requests, seed, adapters)
        completions: dict[int, Completion] = {}
        for name in names:
            members = [n for n, request in enumerate(requests) if request.model == name]
            with self._source.use(name) as model:
                drawn = self._decode(model, [requests[n] for n in members], seed, {})
            completions.update(zip(members, drawn, strict=True))
        return [completions[n] for n in range(len(requests))]

    def _decode(
        self, model: Any, requests: Sequence[CompletionRequest], seed: int, adapters: Mapping[str, str]
    ) -> list[Completion]:
        tokenizer = self._source.tokenizer
        drawn = draw_tokens(
            model,
            tokenizer,
            requests,
            seed=seed,
            batch_size=self._batch_size,
            adapters=adapters,
            finished=self._advance,
        )
        eos_ids = eos_token_ids(model, tokenizer)
        return [
            _completion(request, row.seed, answer, eos_ids, tokenizer)
            for request, (row, answer) in zip(requests, drawn, strict=True)
        ]


@dataclass(frozen=True)
class _SingleModel:
    """A `ModelSource` of one model."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    name: str

    def groups(self) -> list[list[str]]:
        return [[self.name]]

    def together(self, names: Sequence[str]) -> tuple[Any, Mapping[str, str]]:
        raise AssertionError(f"one model cannot answer as {names}")

    def use(self, name: str) -> AbstractContextManager[Any]:
        del name
        return nullcontext(self.model)


def draw_tokens(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[CompletionRequest],
    *,
    seed: int,
    batch_size: int,
    adapters: Mapping[str, str] = MappingProxyType({}),
    finished: Callable[[int], None] = lambda _: None,
) -> list[tuple[DecodeRequest, list[int]]]:
    """Of every request its prompt as token ids, and the tokens drawn for it, the end token included.

    Args:
        model: in evaluation mode.
        adapters: the adapter that answers, by the model that a request names; the model as it is for all others.
        finished: called with the number of completions that have ended.

    Raises:
        ModelError: as `encode`.
    """
    rows = [
        DecodeRequest(encode(r, model, tokenizer), r.sampling, row_seed(seed, r), adapters.get(r.model))
        for r in requests
    ]
    with torch.inference_mode():
        answers = generate_tokens(
            model,
            rows,
            batch_size=batch_size,
            eos_ids=eos_token_ids(model, tokenizer),
            pad_id=pad_token_id(tokenizer),
            finished=finished,
        )
    return list(zip(rows, answers, strict=True))


def generate_tokens(
    model: Any,
    requests: Sequence[DecodeRequest],
    *,
    batch_size: int,
    eos_ids: set[int],
    pad_id: int,
    finished: Callable[[int], None] = lambda _: None,
) -> list[list[int]]:
    """New tokens of every request, the end token included, by whichever way the model allows; see `decode`."""
    reason = why_unsupported(model)
    if reason is not None:
        _tell_fallback(model.config._name_or_path, reason)
    generate = decode if reason is None else generate_in_batches
    return generate(model, requests, batch_size=batch_size, eos_ids=eos_ids, pad_id=pad_id, finished=finished)


@functools.cache
def _tell_fallback(name: str, reason: str) -> None:
    """Once per model and reason."""
    logger.warning("%s answers by model.generate, batch by batch, because %s", name or "the model", reason)


def encode(request: CompletionRequest, model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a prompt, ready for its answer.

    Raises:
        ModelError: if it leaves no room for the answer in the model's context, or does not fit the chat template.
    """
    ids = prompt_tokens(request.prompt, tokenizer)
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and len(ids) + request.sampling.max_new_tokens > limit:
        raise ModelError(
            f"a prompt of {len(ids)} tokens and max_new_tokens {request.sampling.max_new_tokens} exceed the "
            f"model's context of {limit}",
            where=f"prompt {request.prompt.id} ({request.prompt.text[:60]!r})",
            remedy="shorten the prompt or lower max_new_tokens",
        )
    return ids


def _completion(
    request: CompletionRequest, seed: int, tokens: Sequence[int], eos_ids: set[int], tokenizer: PreTrainedTokenizerBase
) -> Completion:
    stopped = bool(tokens) and tokens[-1] in eos_ids
    return Completion(
        prompt_id=request.prompt.id,
        text=str(tokenizer.decode(tokens[:-1] if stopped else tokens, skip_special_tokens=True)),
        model=request.model,
        sampling=request.sampling,
        index=request.index,
        seed=seed,
        finish="stop" if stopped else "length",
        tokens=len(tokens),
        variant=request.variant,
    )


def row_seed(seed: int, request: CompletionRequest) -> int:
    """Seed of one draw: independent of the batch, of the order, and of the other draws."""
    return int(content_id(seed, request.prompt.id, request.sampling.temperature, request.index), 16) % 2**63


def eos_token_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Token ids that end an answer; chat models often end a turn with another token than the tokenizer's own."""
    return _eos_ids(model.generation_config, tokenizer)


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    token_id = tokenizer.pad_token_id
    assert isinstance(token_id, int), "load_tokenizer sees to it"
    return token_id


def greedy_config(
    source: str, section: ModelSection, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
) -> GenerationConfig:
    """The rules by which answers are given here, for whoever loads the model without Fairlead: greedy and plain.

    Args:
        source: folder or hub id of the model, for the tokens that end its answers.
        section: which revision of it, and whether its code may run.
    """
    at = {} if Path(source).is_dir() else {"revision": section.revision}
    try:
        declared = GenerationConfig.from_pretrained(source, **at)
    except OSError:  # as transformers does where a model has none
        config = AutoConfig.from_pretrained(source, trust_remote_code=section.trust_remote_code, **at)
        declared = GenerationConfig.from_model_config(config)
    return GenerationConfig(
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(_eos_ids(declared, tokenizer)),
        pad_token_id=tokenizer.pad_token_id,
    )


def _eos_ids(config: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    declared = getattr(config, "eos_token_id", None)
    declared = [declared] if isinstance(declared, int) else list(declared or [])
    return {int(tokenizer.eos_token_id), *declared}
