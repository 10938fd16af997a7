"""The layout of the shared-prefix forward: a padded batch of prompt + completion rows as one row without repetition.

A preference batch repeats itself. Each pair holds its prompt twice, pairs of one prompt hold it again, prompts begin
with one system prompt, and rows are padded to the longest. Here the batch becomes one row without padding, the packed
row: the batch's rows are sorted, and each adds only the tokens that it does not share with the row before it.

    batch (padded)                packed row

    s s s p p a a a .
    s s s p p b b . .             s s s p p a a | b | q q q c c c | d d d d
    s s s q q q c c c c  ──────►  0 1 2 3 4 5 6   5   3 4 5 6 7 8   6 7 8 9     positions
    s s s q q q d d d d d

Positions continue from where a row leaves the one before it. The attention mask (x) follows:

            s s s p p a a b q
        s   x
        s   x x
        s   x x x                 A token attends to the tokens of its own row that come before it, wherever they are
        p   x x x x               in the packed row, and to nothing else. The batch's rows are the branches of a tree
        p   x x x x x             in depth-first order, and a token attends to the earlier tokens whose branch has not
        a   x x x x x x           ended.
        a   x x x x x x x
        b   x x x x x     x
        q   x x x           x

Everything else in a transformer acts on single tokens, so each token gets the value that it has in the padded batch.
The last token of a row predicts nothing and nothing attends to it, so it is not computed. The hidden states that
predict the scored tokens, those of the tokens before them, go to the language-model head, and the results are
scattered back to the padded batch.

This file knows tensors and attention. It knows no loss, no trainer and no tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

IGNORED = -100  # a label that is not scored
MIN_SHARED = 16  # tokens that two prompts must have in common to share them; rows of one prompt always share it


class UnsupportedError(Exception):
    """The shared-prefix forward would not give the padded batch's values; the message says why."""


class UnsupportedBatchError(UnsupportedError):
    """The same, for this batch alone."""


class LongRowError(UnsupportedBatchError):
    """The same, for the packed row of this batch alone: a row is longer than a layer looks back."""


@dataclass(frozen=True)
class Segment:
    """Successive tokens of the packed row whose attention is computed in one call.

    Attributes:
        length: how many tokens.
        path: numbers of the layout's pieces that they attend to, in order of position; the last ones are the segment.
    """

    length: int
    path: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ScoredTokens:
    """The scored tokens of a padded batch [B, T], each distinct one once.

    Attributes:
        sources: [M], index of the hidden state that predicts each distinct scored token.
        targets: [M], the scored tokens.
        scored: [B, T - 1], true where a label is scored; shifted, so column t belongs to token t + 1.
        scatter_index: index into the M scored tokens of each true entry of `scored`, row by row.
    """

    sources: Tensor
    targets: Tensor
    scored: Tensor
    scatter_index: Tensor

    def scatter(self, values: Tensor) -> Tensor:
        """[M] values of scored tokens to the padded batch's [B, T - 1]; 0 where nothing is scored."""
        return values.new_zeros(self.scored.shape).masked_scatter(self.scored, values[self.scatter_index])


@dataclass(frozen=True, eq=False)
class Layout(ScoredTokens):
    """Where each token of a padded batch [B, T] is in the packed row of N tokens; `sources` are places in that row.

    Attributes:
        input_ids, position_ids: [1, N].
        multiplicity: [1, N], how many tokens of the padded batch each token stands for.
        ends: [N], one past the last token that attends to each; a token attends to the earlier ones that end after it.
        pieces: lengths of the pieces into which the row is cut wherever a segment begins or a branch leaves another.
        segments: in the order of the row.
        calls: one entry per attention layer that has used this layout.
        masks: attention masks, built once and used by every layer.
    """

    input_ids: Tensor
    position_ids: Tensor
    multiplicity: Tensor
    ends: Tensor
    pieces: tuple[int, ...]
    segments: tuple[Segment, ...]
    calls: list[int] = field(default_factory=list)
    masks: dict[Any, Any] = field(default_factory=dict)

    def longest(self) -> int:
        """Tokens of the longest row, its last one not counted where it is not computed."""
        return max(sum(self.pieces[number] for number in segment.path) for segment in self.segments)


def common_tokens(before: np.ndarray[Any, Any], row: np.ndarray[Any, Any], prompt: int) -> int:
    """How many of a row's first tokens it shares with the row before it.

    Args:
        before, row: [n] token numbers.
        prompt: how many tokens come before the row's first label. Rows of one prompt share everything that they have
            in common; rows of different prompts, or of none, share it from `MIN_SHARED` tokens on, which are worth
            another mask.
    """
    both = min(len(before), len(row))
    same = before[:both] == row[:both]
    common = both if same.all() else int(same.argmin())
    return common if common >= min(prompt or MIN_SHARED, MIN_SHARED) else 0


class _Row:
    """The packed row under construction; `path` holds the places in it of the newest batch row's tokens."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.path = np.empty(0, dtype=np.int64)
        self._attended: list[np.ndarray[Any, Any]] = []  # places that each segment attends to
        self._starts: list[int] = []  # of the segments
        self._cuts = {0}
        self._ended: list[tuple[np.ndarray[Any, Any], int]] = []

    def add(self, tokens: np.ndarray[Any, Any], common: int) -> None:
        """Appends the tokens that a row does not share with the newest one."""
        start, new = len(self.ids), len(tokens) - common
        if not new:
            return
        self._ended.append((self.path[common:], start))
        self._cuts |= {start + new, *self.path[common : common + 1].tolist()}
        self.path = np.concatenate([self.path[:common], np.arange(start, start + new)])
        self.ids += tokens[common:].tolist()
        self.positions += range(common, len(tokens))
        self._starts.append(start)
        self._attended.append(self.path)

    def ends(self) -> np.ndarray[Any, Any]:
        """One past the last token that attends to each."""
        ends = np.full(len(self.ids), len(self.ids))
        for tokens, end in self._ended:
            ends[tokens] = end
        return ends

    def segments(self) -> tuple[tuple[int, ...], tuple[Segment, ...]]:
        """The lengths of the pieces, and the segments that attend to them."""
        cuts = np.array(sorted(self._cuts))
        lengths = np.diff([*self._starts, len(self.ids)]).tolist()
        paths = [tuple(np.flatnonzero(np.isin(cuts, tokens)).tolist()) for tokens in self._attended]
        return tuple(np.diff(cuts).tolist()), tuple(map(Segment, lengths, paths))


def build_layout(input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, keep_last: bool = False) -> Layout:
    """The packed row of a padded batch.

    Args:
        input_ids, attention_mask: [B, T], padded on the right.
        labels: [B, T], the tokens to score, `IGNORED` elsewhere.
        keep_last: whether the last token of each row is computed too.

    Raises:
        UnsupportedBatchError: if a row is padded on the left, or nothing is scored.
    """
    lengths = require_scored_right_padded(attention_mask, labels)
    is_scored = labels.cpu().numpy() != IGNORED
    rows: dict[tuple[int, ...], list[int]] = {}
    for number, (ids, length) in enumerate(zip(input_ids.tolist(), lengths, strict=True)):
        rows.setdefault(tuple(ids[: length if keep_last else max(length - 1, 0)]), []).append(number)
    packed, before = _Row(), np.empty(0, dtype=np.int64)
    sources: dict[int, np.ndarray[Any, Any]] = {}
    multiplicity = np.zeros(sum(map(len, rows)), dtype=np.int64)
    for key in sorted(rows):
        tokens, members = np.array(key, dtype=np.int64), rows[key]
        packed.add(tokens, common_tokens(before, tokens, int(is_scored[members].argmax(axis=1).min())))
        before = tokens
        multiplicity[packed.path] += len(members)
        for number in members:
            sources[number] = packed.path[np.flatnonzero(is_scored[number, 1:])]
    pieces, segments = packed.segments()

    def tensor(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.long).to(labels.device)

    return Layout(
        **vars(distinct_scored(np.concatenate([sources[row] for row in range(len(is_scored))]), labels)),
        input_ids=tensor(packed.ids)[None],
        position_ids=tensor(packed.positions)[None],
        multiplicity=tensor(multiplicity[: len(packed.ids)])[None],
        ends=tensor(packed.ends()),
        pieces=pieces,
        segments=segments,
    )


def require_scored_right_padded(attention_mask: Tensor, labels: Tensor) -> list[int]:
    """The length of each row of a padded batch.

    Raises:
        UnsupportedBatchError: if a row is padded on the left, or nothing is scored.
    """
    lengths = attention_mask.sum(dim=1)
    columns = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    if not torch.equal(attention_mask.bool(), columns < lengths[:, None]):
        raise UnsupportedBatchError("rows are not padded on the right")
    if not (labels[:, 1:] != IGNORED).any():  # a row's very first token is predicted by nothing
        raise UnsupportedBatchError("the batch has no token to score")
    result: list[int] = lengths.tolist()
    return result


def distinct_scored(sources: np.ndarray[Any, Any], labels: Tensor) -> ScoredTokens:
    """The scored tokens of a batch, each distinct one once.

    Args:
        sources: index of the hidden state that predicts each scored token, row by row.
        labels: [B, T].
    """
    scored = labels[:, 1:] != IGNORED
    predicted = np.stack([sources, labels[:, 1:][scored].cpu().numpy()])
    distinct, scatter_index = np.unique(predicted, axis=1, return_inverse=True)

    def tensor(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.long).to(labels.device)

    return ScoredTokens(
        sources=tensor(distinct[0]),
        targets=tensor(distinct[1]),
        scored=scored,
        scatter_index=tensor(scatter_index.reshape(-1)),
    )


def packed_backbone(backbone: nn.Module, layout: Layout, layers: int, **kwargs: Any) -> Any:
    """Runs a decoder on the packed row, with its attention cut into the layout's segments.

    Args:
        backbone: a transformers decoder whose attention implementation `attention.register` has made.
        layers: how many attention layers it has; each must have used the layout, once or the same number of times.
        kwargs: further arguments of its forward.

    Returns:
        The decoder's output; its `last_hidden_state` is [1, N, H].

    Raises:
        UnsupportedError: if an attention layer did not use the layout.
    """
    # A mask of four dimensions is taken as it is by transformers, so none is built; the segments need none.
    placeholder = torch.zeros((1, 1, 1, 1), dtype=torch.bool, device=layout.input_ids.device)
    used = len(layout.calls)
    output = backbone(
        input_ids=layout.input_ids,
        position_ids=layout.position_ids,
        attention_mask=placeholder,
        use_cache=False,
        shared_prefix=layout,
        **kwargs,
    )
    calls = len(layout.calls) - used
    if not calls or calls % layers:
        raise UnsupportedError(
            f"{calls} of {layers} layers use transformers' attention interface and pass arguments on"
        )
    return output
