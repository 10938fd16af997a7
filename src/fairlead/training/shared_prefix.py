"""The shared-prefix forward: a padded batch of prompt + completion rows, computed with every prompt once.

A preference batch repeats itself. Each pair holds its prompt twice, pairs of one prompt hold it again, and rows are
padded to the longest. Here the batch becomes one row without padding. Each distinct prompt stands once, followed by
its distinct completions:

    batch (padded)              row (packed)

    p p p p a a a .
    p p p p b b . .             p p p p a a | b |  q q q c c c | d d d d
    q q q c c c c .   ──────►   0 1 2 3 4 5   4    0 1 2 3 4 5   3 4 5 6     positions
    q q q d d d d d             └─ tree 0 ──────┘  └─ tree 1 ───────────┘

Positions restart after the prompt for each completion. What a token may look at (x) follows from it:

            p p p p a a b
        p   x
        p   x x
        p   x x x                 Attention is causal inside [prompt + first completion]; every later completion
        p   x x x x               looks at the prompt and at itself, never at its siblings, never at another tree.
        a   x x x x x
        a   x x x x x x
        b   x x x x     x

All else in a transformer acts on single tokens, so each token gets the value it has in the padded batch. The last
token of a completion predicts nothing and nobody looks at it, so it is not computed at all. What the completions'
tokens are predicted from, the hidden states of the tokens before them, goes to the language-model head, and the
results are scattered back to the padded batch.

This file knows tensors and attention. It knows no loss, no trainer and no tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

IGNORED = -100  # a label that is not scored


class UnsupportedError(Exception):
    """This forward would not give the padded batch's values; the message says why."""


class UnsupportedBatchError(UnsupportedError):
    """The same, for this batch alone."""


@dataclass(frozen=True)
class Tree:
    """A prompt and the completions computed after it, by their numbers of computed tokens (none is 0)."""

    prompt: int
    completions: tuple[int, ...]

    @property
    def segments(self) -> list[int]:
        """Lengths of the pieces it lies in: prompt with the first completion, then each further completion."""
        if not self.completions:
            return [self.prompt]
        return [self.prompt + self.completions[0], *self.completions[1:]]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where everything of a padded batch [B, T] lies in the packed row of N tokens.

    Attributes:
        input_ids, position_ids: [1, N].
        multiplicity: [1, N], how many tokens of the padded batch each token stands for.
        trees: in the order of the row.
        sources: [M], index into the row of the hidden state that predicts each distinct scored token.
        targets: [M], the scored tokens.
        scored: [B, T - 1], true where a label is scored; shifted, so column t belongs to token t + 1.
        taken: index into the M scored tokens of each true entry of `scored`, row by row.
        calls: one entry per attention layer that has used this layout.
        masks: attention masks, built once and used by every layer.
    """

    input_ids: Tensor
    position_ids: Tensor
    multiplicity: Tensor
    trees: tuple[Tree, ...]
    sources: Tensor
    targets: Tensor
    scored: Tensor
    taken: Tensor
    calls: list[int] = field(default_factory=list)
    masks: dict[Any, Any] = field(default_factory=dict)

    def scatter(self, values: Tensor) -> Tensor:
        """[M] values of scored tokens to the padded batch's [B, T - 1]; 0 where nothing is scored."""
        return values.new_zeros(self.scored.shape).masked_scatter(self.scored, values[self.taken])


class _Row:
    """The packed row under construction, as lists of pieces."""

    def __init__(self) -> None:
        self.ids: list[Sequence[int]] = []
        self.positions: list[range] = []
        self.counts: list[np.ndarray[Any, Any]] = []
        self.sources: list[np.ndarray[Any, Any]] = []
        self.targets: list[Sequence[int]] = []
        self.length = 0
        self.scored = 0

    def add(self, ids: Sequence[int], first_position: int, multiplicity: int) -> int:
        """Appends a piece; returns where it starts."""
        start = self.length
        self.ids.append(ids)
        self.positions.append(range(first_position, first_position + len(ids)))
        self.counts.append(np.full(len(ids), multiplicity))
        self.length += len(ids)
        return start

    def score(self, sources: np.ndarray[Any, Any], targets: Sequence[int]) -> int:
        """Appends scored tokens; returns the index of the first among all."""
        first = self.scored
        self.sources.append(sources)
        self.targets.append(targets)
        self.scored += len(targets)
        return first


def build_layout(input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, keep_last: bool = False) -> Layout:
    """The packed row of a padded batch.

    Args:
        input_ids, attention_mask: [B, T], padded on the right.
        labels: [B, T], the tokens to score, `IGNORED` elsewhere. What stands before a row's first label is its prompt.
        keep_last: whether the last token of each completion is computed too.

    Raises:
        UnsupportedBatchError: if a row is padded on the left, or nothing is scored.
    """
    lengths = attention_mask.sum(dim=1).tolist()
    columns = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    if not torch.equal(attention_mask.bool(), columns < attention_mask.sum(dim=1, keepdim=True)):
        raise UnsupportedBatchError("rows are not padded on the right")
    groups: dict[tuple[int, ...], dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]]] = {}
    starts = (labels != IGNORED).int().argmax(dim=1).tolist()
    label_rows = labels.tolist()
    for row, ids in enumerate(input_ids.tolist()):
        start, end = starts[row], lengths[row]
        if label_rows[row][start] == IGNORED:
            continue
        completion = (tuple(ids[start:end]), tuple(label_rows[row][start:end]))
        groups.setdefault(tuple(ids[:start]), {}).setdefault(completion, []).append(row)
    return _assemble(groups, labels, keep_last)


def _assemble(
    groups: dict[tuple[int, ...], dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]]],
    labels: Tensor,
    keep_last: bool,
) -> Layout:
    """The layout of distinct completions, with the rows that hold them, grouped by prompt."""
    packed, trees = _Row(), []
    taken: dict[int, np.ndarray[Any, Any]] = {}
    for prompt, completions in groups.items():
        start = packed.add(prompt, 0, sum(len(rows) for rows in completions.values()))
        computed = []
        for (ids, wanted), rows in completions.items():
            kept = ids if keep_last else ids[:-1]
            base = packed.add(kept, len(prompt), len(rows))
            if kept:
                computed.append(len(kept))
            scored = np.flatnonzero(np.asarray(wanted) != IGNORED)
            scored = scored if prompt else scored[scored > 0]  # a row's very first token is predicted by nothing
            sources = np.where(scored == 0, start + len(prompt) - 1, base + scored - 1)
            first = packed.score(sources, [wanted[i] for i in scored])
            for row in rows:
                taken[row] = np.arange(first, first + len(scored))
        trees.append(Tree(len(prompt), tuple(computed)))
    if not packed.scored:
        raise UnsupportedBatchError("the batch has no token to score")
    device = labels.device

    def tensor(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.long).to(device)

    return Layout(
        input_ids=tensor(np.concatenate([np.asarray(ids, dtype=np.int64) for ids in packed.ids]))[None],
        position_ids=tensor(np.concatenate([np.arange(p.start, p.stop) for p in packed.positions]))[None],
        multiplicity=tensor(np.concatenate(packed.counts))[None],
        trees=tuple(tree for tree in trees if tree.prompt or tree.completions),
        sources=tensor(np.concatenate(packed.sources)),
        targets=tensor(np.concatenate([np.asarray(t, dtype=np.int64) for t in packed.targets])),
        scored=labels[:, 1:] != IGNORED,
        taken=tensor(np.concatenate([taken[row] for row in sorted(taken)])),
    )


def packed_backbone(backbone: nn.Module, layout: Layout, layers: int, **kwargs: Any) -> Any:
    """Runs a decoder on the packed row, with its attention cut into the layout's segments.

    Args:
        backbone: a transformers decoder whose attention is one of `segment_attention`'s.
        layers: how many attention layers it has; each must have used the layout.
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
    if len(layout.calls) - used != layers:
        raise UnsupportedError(
            f"{len(layout.calls) - used} of {layers} layers use transformers' attention interface and pass arguments on"
        )
    return output
