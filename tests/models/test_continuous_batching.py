"""One pass over all variants: the same text as three separate loads and runs, whoever shares the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from fairlead.config.model import ModelSection
from fairlead.models.adapters import ModelName, ModelVariant, VariantLoader
from fairlead.models.continuous_batching import Job, decode, keeps_full
from fairlead.models.generation import Request, TransformersGenerator
from fairlead.models.loading import load_adapter, load_base, load_tokenizer
from fairlead.models.one_pass import OnePassGenerator, ViewRequest
from fairlead.records import Prompt, Sampling

NAMES: tuple[ModelName, ...] = ("base", "sft", "dpo")


@pytest.fixture(scope="module")
def variants(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[ModelName, ModelVariant]:
    """The bare base and two adapters that change what it says."""
    folder = tmp_path_factory.mktemp("adapters")
    for number, name in enumerate(("sft", "dpo")):
        base = load_base(ModelSection(name=str(tiny_model)), tiny_model)
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
    tiny_model: Path, variants: dict[ModelName, ModelVariant], sampling: Sampling, count: int
) -> dict[str, list[str]]:
    """Each variant loaded and run by itself through transformers' own generate."""
    section = ModelSection(name=str(tiny_model))
    tokenizer = load_tokenizer(section, tiny_model)
    found = {}
    for name, variant in variants.items():
        model = load_base(section, tiny_model)
        policy = load_adapter(model, variant.adapter) if variant.adapter else model
        generator = TransformersGenerator(policy.eval(), tokenizer, name=name, batch_size=4)
        answers = generator.generate([Request(prompt, sampling) for prompt in prompts(count)], seed=3)
        found[name] = [answer.text for answer in answers]
    return found


@pytest.mark.parametrize("sampling", [Sampling(0.0, 1.0, 24), Sampling(1.0, 1.0, 24), Sampling(0.9, 0.8, 24)])
def test_one_pass_gives_the_text_of_three_separate_loads_and_runs(tiny_model, variants, sampling):
    host = VariantLoader(ModelSection(name=str(tiny_model)), tiny_model, variants)
    ended: list[int] = []
    generator = OnePassGenerator(host, batch_size=5, advance=ended.append)
    requests = [ViewRequest(prompt, sampling, variant=name) for prompt in prompts(9) for name in NAMES]
    answers = list(generator.generate(requests, seed=3))
    assert sum(ended) == len(requests)
    assert [answer.model for answer in answers] == [request.variant for request in requests]
    expected = separately(tiny_model, variants, sampling, 9)
    for at, name in enumerate(NAMES):
        assert [answer.text for answer in answers[at::3]] == expected[name]
    assert len({tuple(texts) for texts in expected.values()}) == 3, "the variants must differ for this to mean anything"


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
    requests = [ViewRequest(prompt, sampling, variant=name) for prompt in prompts(3) for name in NAMES]
    answers = list(OnePassGenerator(host, batch_size=4, advance=lambda _: None).generate(requests, seed=0))
    assert [a.text for a in answers[0::3]] == [a.text for a in answers[1::3]]  # sft is a copy of the base here


def test_rows_that_end_leave_the_batch_and_others_enter(tiny_model):
    """Answers of 1 to 9 tokens, two at a time: what a row gives does not depend on who came and went."""
    model = load_base(ModelSection(name=str(tiny_model)), tiny_model)
    jobs = [Job([5 + number, 9, 12][: 1 + number % 3], most=1 + number * 4 % 9) for number in range(9)]
    ended: list[int] = []

    def run(part: list[Job], width: int) -> list[list[int]]:
        return decode(
            model,
            part,
            width=width,
            ends=set(),
            filler=0,
            choose=lambda logits, _: logits.argmax(-1),
            finished=ended.append,
        )

    alone = [run([job], 1)[0] for job in jobs]
    assert [len(answer) for answer in alone] == [job.most for job in jobs]
    ended.clear()
    assert run(jobs, 2) == alone
    assert sum(ended) == 9
    assert run(jobs, 20) == alone
    assert run([], 4) == []


def test_an_end_token_ends_its_row_only(tiny_model):
    model = load_base(ModelSection(name=str(tiny_model)), tiny_model)
    job = Job([5, 9], most=12)
    kwargs = {"width": 4, "filler": 0, "choose": lambda logits, _: logits.argmax(-1), "finished": lambda _: None}
    [free] = decode(model, [job], ends=set(), **kwargs)
    end = free[3]
    cut = free[: free.index(end) + 1]
    assert decode(model, [job, Job([5, 9], most=2)], ends={end}, **kwargs) == [cut, free[:2]]


def test_models_whose_state_cannot_be_cut_by_rows_are_known(tiny_model):
    shape = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": 2, "vocab_size": 32}
    assert keeps_full(load_base(ModelSection(name=str(tiny_model)), tiny_model))
    assert keeps_full(GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=32)))
    assert not keeps_full(MistralForCausalLM(MistralConfig(**shape, sliding_window=4)))
