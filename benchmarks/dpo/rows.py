"""Models and rows of the benchmarks of DPO and of answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from benchmarks import ADVISORIES, DATA
from fairlead.files import read_json

SHAPES = {
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49_152},
    "20m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 49_152},
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "vocab_size": 151_936},
    "7b": {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152_064},
}  # fmt: skip


def rows_of(case: str) -> Iterator[dict[str, str]]:
    """Preference rows as plain text."""
    if case == "a":
        levels = ("low", "medium", "high", "critical")
        for line in ADVISORIES.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            wrong = levels[(levels.index(row["severity"]) + 1) % 4] if row["severity"] in levels else "low"
            prompt = f"How severe is this?\n\n{row['package']}: {row['title']}\n\n{row['text']}\n\n"
            if len(prompt) > 700:
                yield {
                    "prompt": prompt,
                    "chosen": f"severity: {row['severity']} | package: {row['package']}",
                    "rejected": f"severity: {wrong} | package: {row['package']}",
                }
        return
    for row in read_json(DATA / "dpo_en_demo.json"):
        turns = row["conversations"]
        if (len(turns) == 1) == (case == "b"):
            prompt = "".join(f"<{turn['from']}> {turn['value']}\n" for turn in turns) + "<gpt> "
            yield {"prompt": prompt, "chosen": row["chosen"]["value"], "rejected": row["rejected"]["value"]}


def synthetic(prompt: int, answer: int, completions: int, prompts: int, system: int) -> list[dict[str, str]]:
    """All pairs of each prompt's completions, the prompts after one system prompt; a word is a token."""
    start = "".join(f"w{i % 900} " for i in range(system))
    heads = [start + "".join(f"w{(i + 17 * n) % 900} " for i in range(prompt)) for n in range(prompts)]
    texts = [" ".join(f"w{1000 + (7 * i + 31 * k) % 9000}" for i in range(answer)) for k in range(completions)]
    pairs = [(texts[i], texts[j]) for i in range(completions) for j in range(i)]
    return [{"prompt": head, "chosen": chosen, "rejected": rejected} for head in heads for chosen, rejected in pairs]


def word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["<pad>", "</s>", *(f"w{i}" for i in range(10_000))])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="</s>")


def tokenizer_of(case: str) -> Any:
    """A byte-level BPE of 16 k tokens, trained on the rows; real tokenizers give about as many tokens a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=16_000,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((text for row in rows_of(case) for text in row.values()), trainer=trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
