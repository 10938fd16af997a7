"""Trains the demo's base model from scratch: a byte-level BPE tokenizer and a small Llama. Knows nothing of triage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from fairlead.errors import DataError
from fairlead.files import disk_errors, read_jsonl

VOCABULARY = 2000
CONTEXT = 512  # tokens that the model can attend to
_WORD = r" ?[A-Za-z][A-Za-z-]*| ?[0-9]+| ?[^\sA-Za-z0-9]|\s"
_BLOCK = 256  # tokens per training row
_EPOCHS = 3
_BATCH = 12
_LEARNING_RATE = 3e-3
_CHECKPOINT_STEPS = 40


def train_base(corpus: Path, out: Path, *, seed: int, progress: Callable[[int, int], None] | None = None) -> None:
    """Writes a model and its tokenizer to `out`, whole or not at all; a killed run goes on where it was.

    Args:
        corpus: JSONL rows {"text"}; each is one document and ends with the end-of-sequence token.
        out: model folder; if it exists, nothing is done.
        progress: called with (finished steps, all steps).

    Raises:
        DataError: if the corpus has no rows or a row has no text.
    """
    out = Path(out)
    if out.exists():
        return
    partial = out.with_suffix(".partial")
    texts = _read(corpus)
    with disk_errors(out):
        partial.mkdir(parents=True, exist_ok=True)
        set_seed(seed)
        tokenizer = _train_tokenizer(texts)
        trainer = _trainer(_blocks(texts, tokenizer), tokenizer, partial / "checkpoints", seed, progress)
        trainer.train(resume_from_checkpoint=_last_checkpoint(partial / "checkpoints"))
        final = partial / "final"
        trainer.model.save_pretrained(final)
        tokenizer.save_pretrained(final)
        final.rename(out)
        shutil.rmtree(partial)


def _read(corpus: Path) -> list[str]:
    texts = []
    for number, row in read_jsonl(corpus):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise DataError('a row {"text": ...} is wanted', where=f"{corpus}:{number}")
        texts.append(row["text"])
    if not texts:
        raise DataError("has no rows", where=str(corpus))
    return texts


def _train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE without a chat template and without a token before the text.

    A hyphenated name is one word, so a frequent one becomes one token: copying it takes one step.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<pad>", "<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=CONTEXT
    )


def _blocks(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> list[dict[str, torch.Tensor]]:
    """All documents in one stream, cut into rows of `_BLOCK` tokens: no padding is computed."""
    stream = [i for ids in tokenizer(texts)["input_ids"] for i in [*ids, tokenizer.eos_token_id]]
    size = min(_BLOCK, len(stream))
    rows = torch.tensor(stream[: len(stream) // size * size]).view(-1, size)
    return [{"input_ids": row, "labels": row} for row in rows]


def _model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _trainer(
    rows: list[dict[str, torch.Tensor]],
    tokenizer: PreTrainedTokenizerFast,
    checkpoints: Path,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=_EPOCHS,
        per_device_train_batch_size=_BATCH,
        learning_rate=_LEARNING_RATE,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        weight_decay=0.01,
        save_steps=_CHECKPOINT_STEPS,
        save_total_limit=2,
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=seed,
    )
    callbacks: list[TrainerCallback] = [_Progress(progress)] if progress else []
    return Trainer(model=_model(tokenizer), args=arguments, train_dataset=rows, callbacks=callbacks)


class _Progress(TrainerCallback):
    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._progress(state.global_step, state.max_steps)


def _last_checkpoint(folder: Path) -> str | None:
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None
