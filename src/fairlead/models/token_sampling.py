"""From logits to next tokens: greedy, or a draw from the random stream that each completion has for itself.

A token is drawn by the Gumbel-max trick: the argmax of log-probabilities plus Gumbel noise is a sample of their
softmax. With one noise stream per completion, no completion depends on which others share its batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from fairlead.records import Sampling


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

    def add(self, scores: Tensor, streams: Sequence[int]) -> Tensor:
        """The same for rows that are only some of the streams, in any order."""
        noise = torch.empty(scores.shape, dtype=torch.float32)
        for row, stream in zip(noise, streams, strict=True):
            row.exponential_(generator=self._generators[stream])
        return scores - noise.log_().to(scores.device)


class TokenChooser:
    """Chooses the next tokens of rows that may be sampled differently.

    Args:
        samplings, seeds: of each completion; a row names its completion by its number here.
    """

    def __init__(self, samplings: Sequence[Sampling], seeds: Sequence[int]) -> None:
        self._rules = [(sampling.temperature, sampling.top_p) for sampling in samplings]
        self._warpers = {(s.temperature, s.top_p): warpers(s) for s in samplings if s.temperature > 0}
        self._noise = GumbelNoise(seeds if self._warpers else ())

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """Next tokens (rows,) from logits (rows, vocabulary) in float32."""
        places_by_rule: dict[tuple[float, float], list[int]] = {}
        for place, row in enumerate(rows):
            places_by_rule.setdefault(self._rules[row], []).append(place)
        if len(places_by_rule) == 1:
            [rule] = places_by_rule
            return self._choose(logits, rows, rule)
        tokens = torch.empty(len(rows), dtype=torch.long, device=logits.device)
        for rule, places in places_by_rule.items():
            tokens[places] = self._choose(logits[places], [rows[place] for place in places], rule)
        return tokens

    def _choose(self, logits: Tensor, rows: Sequence[int], rule: tuple[float, float]) -> Tensor:
        if rule not in self._warpers:
            return logits.argmax(-1)
        scores = logits
        for warper in self._warpers[rule]:
            scores = warper(torch.empty(0, dtype=torch.long), scores)
        return self._noise.add(scores, rows).argmax(-1)


def warpers(sampling: Sampling) -> list[LogitsProcessor]:
    """What turns the model's logits into those of the sampled distribution; temperature above 0."""
    steps: list[LogitsProcessor] = [TemperatureLogitsWarper(float(sampling.temperature))]
    return [*steps, TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else steps


def processors(sampling: Sampling, seeds: Sequence[int]) -> LogitsProcessorList:
    """The same draws for `model.generate` with `do_sample=False`."""
    if sampling.temperature == 0:
        return LogitsProcessorList()
    return LogitsProcessorList([*warpers(sampling), GumbelNoise(seeds)])
