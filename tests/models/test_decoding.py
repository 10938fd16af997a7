"""What the engine saves: every token computed once, a cache written in place, products instead of loops; same texts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import TopPLogitsWarper
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from fairlead.config.model import ModelSection
from fairlead.models import continuous_batching, hardware
from fairlead.models.batch_generate import generate_in_batches
from fairlead.models.continuous_batching import NO_ADAPTER, DecodeRequest, decode
from fairlead.models.decoding.forward import decoding_forward, dense_head_input
from fairlead.models.decoding.grouped_attention import grouped_attention
from fairlead.models.decoding.prefill import common_beginning
from fairlead.models.loading import load_base
from fairlead.models.token_sampling import TopP
from fairlead.records import Sampling

COMMON = list(range(40, 60))
PROMPTS = [[*COMMON, 5, 9, 12], [*COMMON, 7], [*COMMON, 8, 9, 10, 11, 30, 31], [*COMMON, 7, 33]]
LONG = 70  # new tokens: the cache is moved twice


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load_base(ModelSection(name=str(tiny_model), dtype="float32"), tiny_model)


def requests(limit: int = LONG, draws: int = 3) -> list[DecodeRequest]:
    samplings = [Sampling(1.0, 1.0, limit), Sampling(0.7, 0.8, limit // 2), Sampling(0.0, 1.0, limit)]
    return [
        DecodeRequest(prompt, samplings[draw % 3], seed=10 * n + draw)
        for n, prompt in enumerate(PROMPTS)
        for draw in range(draws)
    ]


def run(model: Any, rows: list[DecodeRequest], batch_size: int = 5) -> list[list[int]]:
    return decode(model, rows, batch_size=batch_size, eos_ids={2}, pad_id=0)


def test_no_token_of_a_prompt_is_computed_twice(model: Any) -> None:
    """What all prompts begin with once, the rest of each once, however many completions it has; and the same texts."""
    rows, computed = requests(), []

    def count(_: Any, args: Any, kwargs: Any) -> None:
        del args
        new = kwargs["input_ids"].shape[1]
        if new > 1 or kwargs["past_key_values"].get_seq_length() == len(COMMON):
            computed.append(int(kwargs["attention_mask"][:, -new:].sum()))

    handle = model.register_forward_pre_hook(count, with_kwargs=True)
    together = run(model, rows, batch_size=20)
    handle.remove()
    assert sum(computed) == len(COMMON) + sum(len(prompt) - len(COMMON) for prompt in PROMPTS)
    assert together == generate_in_batches(model, rows, batch_size=1, eos_ids={2}, pad_id=0)
    assert max(map(len, together)) > 64, "long enough for the cache to be moved"


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_texts_do_not_depend_on_the_number_of_rows(model: Any, batch_size: int) -> None:
    assert run(model, requests(), batch_size) == run(model, requests(), 20)


def test_a_beginning_is_common_where_every_prompt_has_it_and_goes_on() -> None:
    assert common_beginning(PROMPTS) == tuple(COMMON)
    assert common_beginning([*PROMPTS, COMMON[:18]]) == tuple(COMMON[:17])
    assert common_beginning([*PROMPTS, COMMON[:10]]) == ()
    assert common_beginning([PROMPTS[0]] * 3) == ()


def test_adapters_in_one_batch_are_those_alone_and_leave_the_model_as_it_was(tiny_model: Path) -> None:
    policy = get_peft_model(
        load_base(ModelSection(name=str(tiny_model), dtype="float32"), tiny_model),
        LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    policy.add_adapter("other", LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, lora_alpha=3))
    policy.eval()
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    names = ["default", NO_ADAPTER, "other"]
    rows = [
        DecodeRequest(r.prompt, r.sampling, r.seed, names[n % 3]) for n, r in enumerate(requests(limit=20, draws=9))
    ]
    together = run(policy, rows)
    for name in names:
        mine = [n for n, row in enumerate(rows) if row.adapter == name]
        alone = [DecodeRequest(rows[n].prompt, rows[n].sampling, rows[n].seed) for n in mine]
        if name == NO_ADAPTER:
            with policy.disable_adapter():
                expected = generate_in_batches(policy, alone, batch_size=4, eos_ids={2}, pad_id=0)
                assert run(policy, alone) == expected
        else:
            policy.set_adapter(name)
            expected = generate_in_batches(policy, alone, batch_size=4, eos_ids={2}, pad_id=0)
            assert run(policy, alone) == expected
        assert [together[n] for n in mine] == expected
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())
    assert not any("forward" in vars(module) for module in policy.modules())


def test_a_small_change_survives_bfloat16(tiny_model: Path) -> None:
    """Stacked, not merged: a change below half a unit in the last place of a weight still moves the logits."""
    base = load_base(ModelSection(name=str(tiny_model), dtype="bfloat16"), tiny_model)
    policy = get_peft_model(base, LoraConfig(r=1, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")).eval()
    for name, tensor in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(tensor, 2e-4)
    ids = torch.tensor([PROMPTS[0]])
    with torch.inference_mode(), decoding_forward(policy, [None]) as forward:
        mask = torch.ones_like(ids, dtype=torch.bool)
        stacked = forward(ids, mask, mask.cumsum(-1) - 1, forward.empty_cache(), [None])
    with torch.inference_mode():
        peft = policy(ids).logits[:, -1].float()
        with policy.disable_adapter():
            bare = policy(ids).logits[:, -1].float()
    assert (stacked - bare).abs().max() > 0
    assert (stacked - peft).abs().mean() < 0.5 * (peft - bare).abs().mean() + 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_attention_is_that_of_transformers(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = torch.nn.Module()
    module.num_key_value_groups = 3  # type: ignore[assignment]
    query, key, value = (torch.randn(4, heads, n, 16).to(dtype) for heads, n in ((6, 1), (2, 9), (2, 9)))
    mask = torch.rand(4, 1, 1, 9) < 0.7
    mask[..., -1] = True
    for seen in (mask, None):
        ours, _ = grouped_attention(module, query, key, value, seen, scaling=0.3)
        theirs, _ = sdpa_attention_forward(module, query, key, value, seen, scaling=0.3)
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, atol=1e-6 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("top_p", [0.1, 0.9, 0.999])
@pytest.mark.parametrize("spread", [0.01, 3.0])
def test_the_nucleus_is_that_of_transformers(top_p: float, spread: float) -> None:
    """Of flat logits the nucleus is larger than the candidates that are looked at first."""
    logits = torch.randn(5, 4000, generator=torch.Generator().manual_seed(0)) * spread
    none: Any = torch.empty(0, dtype=torch.long)
    scores: Any = logits
    ours, theirs = TopP(top_p)(none, scores), TopPLogitsWarper(top_p)(none, scores)
    assert torch.equal(ours[ours > -torch.inf], logits[ours > -torch.inf])
    differ = (ours > -torch.inf) != (theirs > -torch.inf)
    assert int(differ.sum()) <= 5, "the last token of a row may be in or out by rounding"


def test_the_head_s_weights_are_not_copied_for_every_row() -> None:
    """For hidden states with gaps PyTorch would make a batch of products, with a copy of the weights for each row."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(8, 50, bias=False)

        def get_output_embeddings(self) -> torch.nn.Module:
            return self.head

    model, hidden = Model(), torch.randn(3, 6, 8)
    seen: list[Tensor] = []
    with torch.inference_mode(), dense_head_input(model):
        handle = model.head.register_forward_hook(lambda _, args, output: seen.append(args[0]))
        logits = model.head(hidden[:, -1:])
        handle.remove()
    assert seen[0].is_contiguous()
    assert torch.allclose(logits[:, 0], hidden[:, -1] @ model.head.weight.T, atol=1e-6)
    assert not model.head._forward_pre_hooks


def test_out_of_memory_means_fewer_rows_said_once_and_the_same_texts(
    model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rows, limit = requests(), 4

    def refuse(_: Any, args: Any, kwargs: Any) -> None:
        del args
        if len(kwargs["input_ids"]) > limit:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    expected = run(model, rows)
    handle = model.register_forward_pre_hook(refuse, with_kwargs=True)
    ended: list[int] = []
    try:
        said = decode(model, rows, batch_size=12, eos_ids={2}, pad_id=0, finished=ended.append)
    finally:
        handle.remove()
    assert said == expected
    assert sum(ended) == len(rows)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [
        "memory does not hold 12 rows at once: going on with fewer"
    ]
    handle = model.register_forward_pre_hook(refuse, with_kwargs=True)
    limit = 0
    with pytest.raises(RuntimeError, match="allocate"):
        run(model, rows)
    handle.remove()


def test_the_rows_are_those_that_fit_into_a_share_of_the_free_memory(
    model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    widths: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    caplog.set_level(logging.INFO, logger=continuous_batching.__name__)
    monkeypatch.setattr(hardware, "free_memory", lambda _: 2**18)
    few = run(model, requests(), batch_size=12)
    handle.remove()
    [message] = [r.getMessage() for r in caplog.records if r.name == continuous_batching.__name__]
    told = int(message.split()[2])
    assert max(widths) == told < 12
    monkeypatch.undo()
    assert few == run(model, requests(), batch_size=12)


def test_free_memory_is_less_than_the_machine_has() -> None:
    free = hardware.free_memory(torch.device("cpu"))
    assert 2**20 < free < 2**50
