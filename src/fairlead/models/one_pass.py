"""Several views answer in one pass: one set of base weights, rows of all views mixed in batches that stay full.

Each row's tokens are those that its view alone would give: the same weights, the same random stream, the same rules of
ending. Where a model cannot leave and enter a batch row by row, its views answer one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from fairlead.models.adapters import ModelName, VariantLoader
from fairlead.models.continuous_batching import Choose, Job, decode, keeps_full
from fairlead.models.generation import (
    GumbelNoise,
    Request,
    TransformersGenerator,
    cut,
    encode,
    end_tokens,
    row_seed,
    warpers,
)
from fairlead.records import Completion, Sampling


@dataclass(frozen=True)
class ViewRequest(Request):
    """One completion to draw from one view."""

    variant: ModelName = "base"


class OnePassGenerator:
    """Draws completions of any views, in the order of the requests.

    Args:
        host: gives the views' models.
        batch_size: rows decoded at once, of all views together.
        advance: called with the number of answers that have ended.
    """

    def __init__(self, host: VariantLoader, *, batch_size: int, advance: Callable[[int], None]) -> None:
        self._host, self._batch_size, self._advance = host, batch_size, advance

    def generate(self, requests: Sequence[ViewRequest], *, seed: int) -> Iterator[Completion]:
        """Yields one completion per request.

        Raises:
            ModelError: if a prompt leaves no room for an answer in the model's context.
        """
        done: dict[int, Completion] = {}
        for names in self._host.groups():
            members = [n for n, request in enumerate(requests) if request.variant in names]
            found = self._group(names, [requests[n] for n in members], seed)
            done.update(zip(members, found, strict=True))
        yield from (done[n] for n in range(len(requests)))

    def _group(self, names: Sequence[ModelName], requests: Sequence[ViewRequest], seed: int) -> list[Completion]:
        """Completions of views that share base weights."""
        model, adapters = self._host.together(names)
        if not keeps_full(model):
            return self._one_by_one(names, requests, seed)
        tokenizer = self._host.tokenizer
        ends = end_tokens(model, tokenizer)
        done: dict[int, Completion] = {}
        for sampling in dict.fromkeys(request.sampling for request in requests):
            members = [n for n, request in enumerate(requests) if request.sampling == sampling]
            seeds = [row_seed(seed, requests[n]) for n in members]
            jobs = [
                Job(encode(requests[n], model, tokenizer), sampling.max_new_tokens, adapters[requests[n].variant])
                for n in members
            ]
            answers = decode(
                model,
                jobs,
                width=self._batch_size,
                ends=ends,
                filler=int(tokenizer.pad_token_id),
                choose=chooser(sampling, seeds),
                finished=self._advance,
            )
            for n, seed_of_row, answer in zip(members, seeds, answers, strict=True):
                done[n] = _completion(requests[n], seed_of_row, cut(answer, ends, tokenizer))
        return [done[n] for n in range(len(requests))]

    def _one_by_one(self, names: Sequence[ModelName], requests: Sequence[ViewRequest], seed: int) -> list[Completion]:
        done: dict[int, Completion] = {}
        for name in names:
            members = [n for n, request in enumerate(requests) if request.variant == name]
            with self._host.use(name) as model:
                generator = TransformersGenerator(
                    model, self._host.tokenizer, name=name, batch_size=self._batch_size, advance=self._advance
                )
                found = generator.generate([requests[n] for n in members], seed=seed)
                done.update(zip(members, found, strict=True))
        return [done[n] for n in range(len(requests))]


def chooser(sampling: Sampling, seeds: Sequence[int]) -> Choose:
    """Greedy choice at temperature 0, else a draw from each row's own random stream."""
    if sampling.temperature == 0:
        return lambda logits, _rows: logits.argmax(-1)
    noise, steps = GumbelNoise(seeds), warpers(sampling)

    def choose(logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        scores = logits
        for step in steps:
            scores = step(torch.empty(0, dtype=torch.long), scores)
        return noise.add(scores, rows).argmax(-1)

    return choose


def _completion(request: ViewRequest, seed: int, answer: tuple[str, int, bool]) -> Completion:
    text, tokens, stopped = answer
    return Completion(
        prompt_id=request.prompt.id,
        text=text,
        model=request.variant,
        sampling=request.sampling,
        index=request.index,
        seed=seed,
        finish="stop" if stopped else "length",
        tokens=tokens,
    )
