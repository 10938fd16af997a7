"""A model small enough to train in a test that copies: the form of its examples, and what stands in a passage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fairlead.decide.candidates import build
from fairlead.decide.retrieval.passages import Passage
from fairlead.records import Example, Prompt
from tests.support.once import made_once

STYLES = ["severity", "level", "rank", "grade", "class", "tier"]
COLORS = ["red", "green", "blue", "black", "white", "brown", "pink", "grey"]
NAMES = [f"svc{n}" for n in range(64)]
CODES = [f"code{n}" for n in range(40)]
PLACES = [f"rack{n}" for n in range(40)]

STEPS = 260
_BATCH, _RATE, _WIDTH = 24, 5e-3, 64


def ticket(color: str, place: str) -> str:
    return f"ticket from {place} , light is {color}"


def fact(name: str, code: str) -> str:
    return f"the key of {name} is {code}"


def question(name: str) -> str:
    return f"key of {name} ?"


def few_shot_episode(draw: Random) -> tuple[Prompt, str]:
    """Examples of one form, then a prompt whose answer has that form; without examples it is any but the first."""
    shots = draw.randrange(4)
    style = draw.choice(STYLES if shots else STYLES[1:])

    def example() -> Example:
        color = draw.choice(COLORS)
        return Example(Prompt.of(ticket(color, draw.choice(PLACES))), f"{style} : {color}")

    asked = example()
    return build(asked.prompt, None, [example() for _ in range(shots)]), asked.answer


def reading_episode(draw: Random) -> tuple[Prompt, str]:
    """A passage that states a fact, then a question about it."""
    name, code = draw.choice(NAMES), draw.choice(CODES)
    return build(Prompt.of(question(name)), None, (), [Passage("facts", fact(name, code))]), f"{name} is {code}"


def train_reader(folder: Path, *, steps: int = STEPS) -> Path:
    """Writes the model and its tokenizer to `folder`."""
    tokenizer = _tokenizer()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=_WIDTH,
            intermediate_size=2 * _WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            initializer_range=0.06,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 30) * max(0.05, 1 - step / steps)
    )
    model.train()
    for _, (ids, labels) in zip(range(steps), _batches(tokenizer), strict=False):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _batches(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    draw = Random(0)
    while True:
        kind = draw.choice((few_shot_episode, reading_episode))  # of like length, so that little is padding
        rows = [_document(*kind(draw), tokenizer) for _ in range(_BATCH)]
        longest = max(len(ids) for ids, _ in rows)
        yield (
            torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows]),
            torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in rows]),
        )


def _document(prompt: Prompt, answer: str, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """As the plain template writes it: a line per turn, the end-of-sequence token after each answer."""
    ids: list[int] = []
    labels: list[int] = []
    for message in prompt.messages:
        is_answer = message.role == "assistant"
        text = message.content + ("</s>" if is_answer else "\n")
        tokens = tokenizer(text)["input_ids"]
        ids += tokens
        labels += tokens if is_answer else [-100] * len(tokens)
    tokens = tokenizer(f"{answer}</s>")["input_ids"]
    return ids + tokens, labels + tokens


def _tokenizer() -> PreTrainedTokenizerFast:
    """One token per word, line break and mark."""
    split = pre_tokenizers.Split(Regex(r"\n|\w+|[^\w\s]"), "removed", invert=True)
    draw = Random(1)
    texts = [
        text
        for kind in (few_shot_episode, reading_episode)
        for _ in range(50)
        for text in (message.content for message in kind(draw)[0].messages)
    ]
    words = {word for text in texts for word, _ in split.pre_tokenize_str(text)}
    words |= {*STYLES, *COLORS, *NAMES, *CODES, *PLACES, "\n", ":", "is"}
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    vocabulary = {word: number for number, word in enumerate([*special, *sorted(words)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = split
    inner.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that copies, trained once."""
    return made_once(tmp_path_factory, "reader", lambda folder: train_reader(folder / "model")) / "model"
