"""One pass over all variants: the same text as three separate loads and runs, whoever shares the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from fairlead.config.model import ModelSection
from fairlead.models import hardware
from fairlead.models.adapters import ModelName, ModelVariant, VariantLoader
from fairlead.models.batch_generate import generate_in_batches
from fairlead.models.continuous_batching import (
    DecodeRequest,
    decode,
    supports_continuous_batching,
    why_unsupported,
)
from fairlead.models.generation import CompletionRequest, LocalGenerator
from fairlead.models.loading import load_adapter, load_base, load_tokenizer
from fairlead.records import Prompt, Sampling
from tests.support.generation import by_generate

NAMES: tuple[ModelName, ...] = ("base", "sft", "dpo")
SAMPLED = Sampling(1.0, 1.0, 24)


@pytest.fixture(scope="module")
def variants(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[ModelName, ModelVariant]:
    """The bare base and two adapters that change what it says."""
    folder = tmp_path_factory.mktemp("adapters")
    for number, name in enumerate(("sft", "dpo")):
        base = load_base(ModelSection(name=str(tiny_model), dtype="float32"), tiny_model)
        torch.manual_seed(number)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(base, config).save_pretrained(str(folder / name))
    return {
        "base": ModelVariant(),
        "sft": ModelVariant(adapter=folder / "sft"),
        "dpo": ModelVariant(adapter=folder / "dpo"),
    }


def prompts(count: int) -> list[Prompt]:
    return [Prompt.of(f"report {number} {'of the disk ' * (number * 7 % 5)}") for number in range(count)]


def separately(
    section: ModelSection, variants: dict[ModelName, ModelVariant], sampling: Sampling, count: int
) -> dict[str, list[str]]:
    """Each variant loaded and run by itself through transformers' own generate."""
    folder = Path(section.name)
    tokenizer = load_tokenizer(section, folder)
    results = {}
    for name, variant in variants.items():
        model = load_base(section, folder)
        policy = load_adapter(model, variant.adapter) if variant.adapter else model
        results[name] = by_generate(policy.eval(), tokenizer, prompts(count), sampling, seed=3)
    return results


def in_one_pass(
    section: ModelSection, variants: dict[ModelName, ModelVariant], sampling: Sampling, count: int, batch_size: int = 5
) -> dict[str, list[str]]:
    host = VariantLoader(section, Path(section.name), variants)
    requests = [CompletionRequest(prompt, sampling, model=name) for prompt in prompts(count) for name in NAMES]
    answers = list(LocalGenerator(host, batch_size=batch_size).generate(requests, seed=3))
    assert [answer.model for answer in answers] == [request.model for request in requests]
    return {name: [answer.text for answer in answers[at::3]] for at, name in enumerate(NAMES)}


@pytest.mark.parametrize("sampling", [Sampling(0.0, 1.0, 24), Sampling(1.0, 1.0, 24), Sampling(0.9, 0.8, 24)])
def test_one_pass_gives_the_text_of_three_separate_loads_and_runs(tiny_model, variants, sampling):
    section = ModelSection(name=str(tiny_model), dtype="float32")
    expected = separately(section, variants, sampling, 9)
    assert in_one_pass(section, variants, sampling, 9) == expected
    assert len({tuple(texts) for texts in expected.values()}) == 3, "the variants must differ for this to mean anything"


def test_every_finished_completion_is_told_once(tiny_model, variants):
    host = VariantLoader(ModelSection(name=str(tiny_model)), tiny_model, variants)
    ended: list[int] = []
    requests = [CompletionRequest(prompt, SAMPLED, model=name) for prompt in prompts(9) for name in NAMES]
    list(LocalGenerator(host, batch_size=5, advance=ended.append).generate(requests, seed=3))
    assert sum(ended) == len(requests)


@pytest.mark.parametrize("in_hardware", [False, True])
def test_in_the_type_that_auto_means_the_same_pass_gives_the_same_text(tiny_model, variants, monkeypatch, in_hardware):
    """Also in bfloat16, where batches of other rows may round a near-tie the other way."""
    monkeypatch.setattr(hardware, "computes_bf16", lambda _: in_hardware)
    section = ModelSection(name=str(tiny_model), dtype="auto")
    assert load_base(section, tiny_model).dtype == (torch.bfloat16 if in_hardware else torch.float32)
    first = in_one_pass(section, variants, SAMPLED, 9)
    assert in_one_pass(section, variants, SAMPLED, 9) == first
    alone = separately(section, variants, SAMPLED, 9)
    equal = [a == b for name in NAMES for a, b in zip(first[name], alone[name], strict=True)]
    assert np.mean(equal) >= (0.7 if in_hardware else 1.0)


def test_one_set_of_base_weights_is_in_memory(tiny_model, variants):
    host = VariantLoader(ModelSection(name=str(tiny_model)), tiny_model, variants)
    model, adapters = host.together(NAMES)
    assert adapters == {"base": "__base__", "sft": "sft", "dpo": "dpo"}
    embeddings = [name for name, _ in model.named_parameters() if "embed_tokens" in name]
    assert len(embeddings) == 1


def test_full_weights_are_answered_group_by_group(tiny_model, variants):
    mixed: dict[ModelName, ModelVariant] = {
        "base": ModelVariant(),
        "sft": ModelVariant(base=tiny_model),
        "dpo": variants["dpo"],
    }
    host = VariantLoader(ModelSection(name=str(tiny_model)), tiny_model, mixed)
    assert host.groups() == [["base", "dpo"], ["sft"]]
    sampling = Sampling(0.0, 1.0, 8)
    requests = [CompletionRequest(prompt, sampling, model=name) for prompt in prompts(3) for name in NAMES]
    answers = list(LocalGenerator(host, batch_size=4).generate(requests, seed=0))
    assert [a.text for a in answers[0::3]] == [a.text for a in answers[1::3]]  # sft is a copy of the base here


def request(prompt: list[int], max_new_tokens: int) -> DecodeRequest:
    return DecodeRequest(prompt, Sampling(0.0, 1.0, max_new_tokens))


def test_rows_that_end_leave_the_batch_and_others_enter(tiny_model):
    """Answers of 1 to 9 tokens, two at a time: what a row gives does not depend on who came and went."""
    model = load_base(ModelSection(name=str(tiny_model), dtype="float32"), tiny_model)
    requests = [request([5 + number, 9, 12][: 1 + number % 3], 1 + number * 4 % 9) for number in range(9)]
    ended: list[int] = []

    def run(part: list[DecodeRequest], batch_size: int) -> list[list[int]]:
        return decode(model, part, batch_size=batch_size, eos_ids=set(), pad_id=0, finished=ended.append)

    alone = [run([one], 1)[0] for one in requests]
    assert [len(answer) for answer in alone] == [one.sampling.max_new_tokens for one in requests]
    ended.clear()
    assert run(requests, 2) == alone
    assert sum(ended) == 9
    assert run(requests, 20) == alone
    assert run([], 4) == []


def test_an_end_token_ends_its_row_only(tiny_model):
    model = load_base(ModelSection(name=str(tiny_model), dtype="float32"), tiny_model)
    [free] = decode(model, [request([5, 9], 12)], batch_size=4, eos_ids=set(), pad_id=0)
    end = free[3]
    cut = free[: free.index(end) + 1]
    both = decode(model, [request([5, 9], 12), request([5, 9], 2)], batch_size=4, eos_ids={end}, pad_id=0)
    assert both == [cut, free[:2]]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8, 40])
def test_completions_of_one_prompt_share_its_prefill(tiny_model, batch_size):
    """Every prompt goes through the model once, however its completions are spread over the batch."""
    model = load_base(ModelSection(name=str(tiny_model), dtype="float32"), tiny_model)
    samplings = [Sampling(1.0, 1.0, 9), Sampling(0.7, 0.9, 4), Sampling(0.0, 1.0, 6)]
    rows = [[5, 9, 12, 30], [7, 8, 9, 10], [40, 41]]
    requests = [
        DecodeRequest(row, samplings[draw % 3], seed=100 * n + draw) for n, row in enumerate(rows) for draw in range(7)
    ]
    prefilled = []
    handle = model.register_forward_pre_hook(
        lambda _, args, kwargs: prefilled.append(kwargs["input_ids"].tolist()), with_kwargs=True
    )
    together = decode(model, requests, batch_size=batch_size, eos_ids={2}, pad_id=0)
    handle.remove()
    prompts_seen = [[token for token in row if token] for ids in prefilled if len(ids[0]) > 1 for row in ids]
    assert sorted(prompts_seen) == sorted(rows)
    assert together == generate_in_batches(model, requests, batch_size=4, eos_ids={2}, pad_id=0)


def test_a_prompt_is_prefilled_once_for_each_adapter(tiny_model, variants):
    host = VariantLoader(ModelSection(name=str(tiny_model), dtype="float32"), tiny_model, variants)
    requests = [
        CompletionRequest(prompt, SAMPLED, index, name) for prompt in prompts(3) for name in NAMES for index in range(4)
    ]
    model, _ = host.together(NAMES)
    prefilled: list[int] = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: prefilled.append(
            len(kwargs["input_ids"]) if kwargs["past_key_values"].get_seq_length() == 0 else 0
        ),
        with_kwargs=True,
    )
    answers = list(LocalGenerator(host, batch_size=7).generate(requests, seed=1))
    assert sum(prefilled) == 9
    for name in NAMES:
        with host.use(name) as alone:
            mine = [request for request in requests if request.model == name]
            expected = LocalGenerator.of(alone, host.tokenizer, name=name, batch_size=3).generate(mine, seed=1)
            assert [a.text for a in expected] == [a.text for a in answers if a.model == name]


SHAPE = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
SHAPE |= {"num_key_value_heads": 2, "vocab_size": 300}


def test_models_whose_state_cannot_be_cut_by_rows_are_known(tiny_model):
    assert supports_continuous_batching(load_base(ModelSection(name=str(tiny_model)), tiny_model))
    assert supports_continuous_batching(GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=32)))
    assert supports_continuous_batching(MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=4)))
    assert not supports_continuous_batching(short_convolutions())
    assert "recurrent" in str(why_unsupported(mamba()))
    local = GPTNeoConfig(num_layers=2, attention_types=[[["global", "local"], 1]], hidden_size=16, num_heads=2)
    assert "windows of its local layers" in str(why_unsupported(GPTNeoForCausalLM(local)))


def mamba() -> MambaForCausalLM:
    torch.manual_seed(0)
    return MambaForCausalLM(
        MambaConfig(vocab_size=300, hidden_size=16, state_size=4, num_hidden_layers=1, pad_token_id=0, eos_token_id=2)
    )


def short_convolutions() -> Lfm2ForCausalLM:
    torch.manual_seed(0)
    shape = {**SHAPE, "num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]}
    return Lfm2ForCausalLM(Lfm2Config(**shape, pad_token_id=0, bos_token_id=1, eos_token_id=2))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (short_convolutions, "another state"),
        (mamba, "recurrent"),
    ],
)
def test_other_models_answer_by_generate_behind_the_same_interface(tiny_model, caplog, build, reason):
    model = build().eval()
    model.config._name_or_path = f"a model of {reason}"
    tokenizer = load_tokenizer(ModelSection(name=str(tiny_model)), tiny_model)
    generator = LocalGenerator.of(model, tokenizer, name="other", batch_size=1)
    sampling = Sampling(1.0, 1.0, 8)
    requests = [CompletionRequest(prompt, sampling, model="other") for prompt in prompts(3)]
    for _ in range(2):
        answers = [answer.text for answer in generator.generate(requests, seed=3)]
        assert answers == by_generate(model, tokenizer, prompts(3), sampling, seed=3, batch_size=1)
    messages = [record.getMessage() for record in caplog.records if "model.generate" in record.getMessage()]
    assert len(messages) == 1, "said once"
    assert reason in messages[0]
