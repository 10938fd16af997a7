"""From logits to next tokens: greedy, or a draw from the random stream that each completion has for itself.

A token is drawn by the Gumbel-max trick: the argmax of log-probabilities plus Gumbel noise is a sample of their
softmax. With one noise stream per completion, no completion depends on which others share its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper

from fairlead.records import Sampling

_TOP_CANDIDATES = 1024  # tokens that hold a nucleus nearly always; a row whose nucleus is larger is sorted whole


class TopP(LogitsProcessor):
    """Rules out all but the most probable tokens that together have at least the probability `top_p`.

    The nucleus of transformers' `TopPLogitsWarper`, without sorting the whole vocabulary for every token.

    Source: Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020).
    """

    def __init__(self, top_p: float) -> None:
        self._top_p = top_p

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """scores: (rows, vocabulary) logits; -inf in the result where a token is ruled out."""
        del input_ids
        kept, log_total = torch.full_like(scores, float("-inf")), scores.logsumexp(-1, keepdim=True)
        rows = torch.arange(len(scores), device=scores.device)
        for count in (_TOP_CANDIDATES, scores.shape[1]):
            logits, tokens = scores[rows].topk(min(count, scores.shape[1]), dim=-1)
            probs = (logits - log_total[rows]).exp()
            before = probs.cumsum(-1) - probs
            kept[rows[:, None], tokens] = logits.masked_fill(before >= self._top_p, float("-inf"))
            rows = rows[before[:, -1] + probs[:, -1] < self._top_p]
            if not len(rows):
                break
        return kept  # type: ignore[return-value]


class GumbelNoise(LogitsProcessor):
    """Adds Gumbel(0, 1) noise from one generator per row, so that greedy decoding samples.

    The noise of a token is -log E with E exponential, drawn in double precision, because the least of 50,000 decides.

    Source: Gumbel (1954); Maddison, Tarlow and Minka, "A* Sampling" (2014), section 2.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [np.random.Generator(np.random.SFC64(seed)) for seed in seeds]
        self._drawn = np.empty((0, 0))
        self._threads = ThreadPoolExecutor(torch.get_num_threads())

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """scores: (rows, vocabulary) logits, -inf where a token is ruled out."""
        del input_ids
        return self.add(scores, range(len(self._generators)))  # type: ignore[return-value]

    def add(self, scores: Tensor, streams: Sequence[int]) -> Tensor:
        """The same for rows that are only some of the streams, in any order."""
        rows, vocabulary = scores.shape
        if len(self._drawn) < rows or self._drawn.shape[1] != vocabulary:
            self._drawn = np.empty((rows, vocabulary))
        drawn = self._drawn[:rows]
        list(self._threads.map(self._draw, streams, drawn))  # a generator lets the others run while it fills a row
        return scores - torch.from_numpy(drawn).to(torch.float32).log_().to(scores.device)

    def _draw(self, stream: int, row: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
        self._generators[stream].standard_exponential(out=row)


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
            return _argmax(logits)
        scores = logits
        for warper in self._warpers[rule]:
            scores = warper(torch.empty(0, dtype=torch.long), scores)
        return _argmax(self._noise.add(scores, rows))


def _argmax(scores: Tensor) -> Tensor:
    """Numbers of the largest scores of each row; NumPy finds them several times as fast on a CPU."""
    return torch.from_numpy(scores.numpy().argmax(-1)) if scores.device.type == "cpu" else scores.argmax(-1)


def warpers(sampling: Sampling) -> list[LogitsProcessor]:
    """What turns the model's logits into those of the sampled distribution; temperature above 0."""
    steps: list[LogitsProcessor] = [TemperatureLogitsWarper(float(sampling.temperature))]
    return [*steps, TopP(sampling.top_p)] if sampling.top_p < 1 else steps


def processors(sampling: Sampling, seeds: Sequence[int]) -> LogitsProcessorList:
    """The same draws for `model.generate` with `do_sample=False`."""
    if sampling.temperature == 0:
        return LogitsProcessorList()
    return LogitsProcessorList([*warpers(sampling), GumbelNoise(seeds)])
