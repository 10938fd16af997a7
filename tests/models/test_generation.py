"""Generation: the same text for the same seed, whatever shares the batch and however often it was killed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fairlead.config.model import ModelSection
from fairlead.errors import ArtifactError, ModelError
from fairlead.models.generation import CompletionRequest, LocalGenerator
from fairlead.models.loading import load_base, load_tokenizer
from fairlead.models.resumable import generate_resumable
from fairlead.models.token_sampling import GumbelNoise
from fairlead.records import Completion, Message, Prompt, Sampling


@pytest.fixture(scope="module")
def generator(tiny_model: Path) -> LocalGenerator:
    section = ModelSection(name=str(tiny_model), dtype="float32")
    tokenizer = load_tokenizer(section, tiny_model)
    return LocalGenerator.of(load_base(section, tiny_model), tokenizer, name="base", batch_size=4)


def requests(count: int, temperature: float = 1.0) -> list[CompletionRequest]:
    return [
        CompletionRequest(Prompt.of(f"the disk {'of the ' * n}"), Sampling(temperature, 1.0, 12)) for n in range(count)
    ]


def test_a_completion_does_not_depend_on_its_batch(generator: LocalGenerator) -> None:
    together = list(generator.generate(requests(6), seed=1))
    alone = [next(generator.generate([request], seed=1)) for request in requests(6)]
    assert [c.text for c in together] == [c.text for c in alone]


def test_draws_of_one_prompt_differ_and_follow_the_seed(generator: LocalGenerator) -> None:
    prompt = Prompt.of("the disk")
    two = [CompletionRequest(prompt, Sampling(1.0, 1.0, 12), index) for index in range(2)]
    first, second = generator.generate(two, seed=1)
    assert first.text != second.text
    assert [c.text for c in generator.generate(two, seed=1)] == [first.text, second.text]
    assert [c.text for c in generator.generate(two, seed=2)] != [first.text, second.text]


def test_gumbel_noise_samples_the_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    noise = GumbelNoise([5])
    draws = torch.tensor([int(noise(torch.empty(0), logits).argmax()) for _ in range(6000)])
    shares = torch.bincount(draws, minlength=3) / 6000
    assert torch.allclose(shares, logits.softmax(-1)[0], atol=0.02)


def test_an_answer_cut_by_the_limit_says_so(generator: LocalGenerator) -> None:
    cut = [c for c in generator.generate(requests(4, temperature=0), seed=0) if c.finish == "length"]
    assert all(c.tokens == 12 for c in cut)
    assert cut, "a random model hardly ever ends an answer by itself"


def test_a_prompt_that_fills_the_context_is_one_clear_line(generator: LocalGenerator) -> None:
    with pytest.raises(ModelError, match="exceed the model's context of 512"):
        next(generator.generate([CompletionRequest(Prompt.of("disk " * 600), Sampling(0, 1, 12))], seed=0))


def test_plain_template_ends_answers_and_separates_turns(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(ModelSection(name=str(tiny_model)), tiny_model)
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    text = tokenizer.apply_chat_template([{"role": m.role, "content": m.content} for m in turns], tokenize=False)
    assert text == "a\nb</s>c\n"


class _Dies:
    """A generator that is killed after some chunks."""

    def __init__(self, inner: LocalGenerator, after: int) -> None:
        self._inner, self._left = inner, after

    def generate(self, requests: list[CompletionRequest], *, seed: int) -> Iterator[Completion]:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        return self._inner.generate(requests, seed=seed)


def test_a_killed_generation_goes_on_and_gives_the_same_text(generator: LocalGenerator, tmp_path: Path) -> None:
    def go(source: object, log: Path) -> list[Completion]:
        return generate_resumable(source, requests(10), log=log, chunk=3, seed=4, advance=lambda _: None)  # type: ignore[arg-type]

    whole = go(generator, tmp_path / "whole.jsonl")
    log = tmp_path / "killed.jsonl"
    with pytest.raises(KeyboardInterrupt):
        go(_Dies(generator, 2), log)
    with log.open("a", encoding="utf-8") as file:
        file.write('[{"half a li')
    assert go(_Dies(generator, 2), log) == whole  # two chunks were kept, two are left
    assert len(list(itertools.chain(whole))) == 10
    for chunk in (1, 4, 100):
        log = tmp_path / f"{chunk}.jsonl"
        kwargs = {"log": log, "seed": 4, "advance": lambda _: None}
        assert generate_resumable(generator, requests(10), chunk=chunk, **kwargs) == whole
    log = tmp_path / "killed.jsonl"
    assert generate_resumable(generator, requests(10), log=log, chunk=7, seed=4, advance=lambda _: None) == whole
    with pytest.raises(ArtifactError, match="holds completions of other requests"):
        generate_resumable(generator, requests(10)[1:], log=log, chunk=3, seed=4, advance=lambda _: None)


def test_no_model_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load_base(ModelSection(name=str(tmp_path)), tmp_path)
    with pytest.raises(ModelError, match="no such model folder"):
        load_base(ModelSection(name="./absent"), tmp_path)
