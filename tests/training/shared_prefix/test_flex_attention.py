"""The one FlexAttention call that CUDA makes of a row sees what the segments see, which everything else makes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fairlead.training.shared_prefix.attention import _flex, _shared_prefix_attention, block_mask
from fairlead.training.shared_prefix.layout import Layout, build_layout
from tests.support.twins import KNOWN, answers, assert_same, batch, padded, twins

DEVICE = "cuda"
ROWS = {
    "two prompts, three and two completions": batch,
    "no prompt": lambda: padded([([], [8, 9, 3]), ([], [7, 5])]),
    "a prompt that begins another": lambda: padded([([5, 6, 7], [8, 9, 10]), ([5, 6, 7], [4]), ([5, 6], [9, 9, 9])]),
    "one system prompt": lambda: padded(
        [([*range(3, 23), 5, 6, 7], [8, 9, 10]), ([*range(3, 23), 5, 6, 7], [8, 4]), ([*range(3, 23), 30], [9, 9])]
    ),
}


def layout_of(rows: Callable[[], dict[str, Tensor]]) -> Layout:
    return build_layout(**rows())


def seen_by_segments(layout: Layout, window: int | None) -> Tensor:
    """[N, N]: a token sees the pieces of its segment's path, backwards, inside the window."""
    starts = [0, *itertools.accumulate(layout.pieces)]
    position = layout.position_ids[0].tolist()
    seen = torch.zeros(len(position), len(position), dtype=torch.bool)
    first = 0
    for segment in layout.segments:
        path = [token for number in segment.path for token in range(starts[number], starts[number + 1])]
        for query in range(first, first + segment.length):
            for key in path:
                near = window is None or position[query] - position[key] < window
                seen[query, key] = position[key] <= position[query] and near
        first += segment.length
    return seen


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("window", [None, 3])
def test_the_mask_is_that_of_the_segments(rows: str, window: int | None) -> None:
    layout = layout_of(ROWS[rows])
    mask = block_mask(layout, window, torch.device("cpu"))
    index = torch.arange(layout.input_ids.shape[1])
    allowed = mask.mask_mod(torch.tensor(0), torch.tensor(0), index[:, None], index[None])
    assert torch.equal(allowed, seen_by_segments(layout, window))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_one_call_gives_what_the_segments_give(rows: str, window: int | None, softcap: float | None) -> None:
    layout = layout_of(ROWS[rows])
    length = layout.input_ids.shape[1]
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, length, 16, generator=draw) for heads in (4, 2, 2))
    settings: dict[str, Any] = {"softcap": softcap, "scaling": 0.3, "sliding_window": window}
    expected = _shared_prefix_attention(nn.Module(), query, key, value, layout, **settings)
    with torch.compiler.set_stance("force_eager"):  # by its definition, without a kernel
        attended = _flex(nn.Module().eval(), query, key, value, layout, 0.3, window, softcap, None)
    torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "qwen3", "gpt_neox", "mixtral"])
def test_on_cuda_log_probabilities_and_gradients_are_those_of_the_padded_batch(name: str) -> None:
    config = KNOWN[name]()
    config.hidden_size = 64
    if getattr(config, "head_dim", None):
        config.head_dim = 16  # the kernel asks for as much
    ours, theirs, packed = twins(config, "eager" if name == "gemma2" else "sdpa")
    for model in (ours, theirs):
        model.to(DEVICE)
    outputs = answers(ours, theirs, {key: value.to(DEVICE) for key, value in batch().items()})
    assert packed.reason is None
    assert_same(ours, theirs, outputs)
