"""Trains the demo's base model from scratch: a byte-level BPE tokenizer and a small Llama."""

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
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from fairlead.data.reading.fields import prompt_and_answer
from fairlead.data.reading.rows import read_rows
from fairlead.files import disk_errors
from fairlead.training.hf_trainer import newest_checkpoint

VOCABULARY = 1000
CONTEXT = 512  # tokens that the model can attend to
STEPS = 500
_WORD = r" ?[A-Za-z][A-Za-z-]*| ?[0-9]+| ?[^\sA-Za-z0-9]|\s"
_BATCH = 32
_LEARNING_RATE = 2e-3
_INITIALIZER = 0.06
_CHECKPOINT_STEPS = 80
_IGNORED = -100  # label of a token that the loss leaves out


def train_base(
    corpus: Path, out: Path, *, seed: int, steps: int = STEPS, progress: Callable[[int, int], None] | None = None
) -> None:
    """Writes a model and its tokenizer to `out`, completely or not at all; a killed run continues where it stopped.

    Args:
        corpus: JSONL rows {"prompt", "answer"}; a document is the prompt, a line break, the answer and the
            end-of-sequence token. The loss is on the answer only, because a minute of training is too short for more.
        out: model folder; if it exists, nothing is done.
        progress: called with (finished steps, all steps).

    Raises:
        DataError: if the corpus has no rows or a row is not of that form.
    """
    out = Path(out)
    if out.exists():
        return
    partial = out.with_suffix(".partial")
    rows = _read(corpus)
    with disk_errors(out):
        partial.mkdir(parents=True, exist_ok=True)
        set_seed(seed)
        tokenizer = _train_tokenizer([f"{prompt}\n{answer}" for prompt, answer in rows])
        documents = [_document(prompt, answer, tokenizer) for prompt, answer in rows]
        trainer = _trainer(documents, tokenizer, partial / "checkpoints", seed, steps, progress)
        trainer.train(resume_from_checkpoint=_resume(partial / "checkpoints"))
        final = partial / "final"
        trainer.model.save_pretrained(final)
        tokenizer.save_pretrained(final)
        final.rename(out)
        shutil.rmtree(partial)


def _resume(checkpoints: Path) -> str | None:
    newest = newest_checkpoint(checkpoints)
    return str(newest) if newest else None


def _read(corpus: Path) -> list[tuple[str, str]]:
    return [row.read(prompt_and_answer) for row in read_rows(corpus)]


def _train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE without a chat template and without a token before the text.

    A hyphenated name is one word, so that a frequent one becomes one token, which is easier to copy.
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


def _document(prompt: str, answer: str, tokenizer: PreTrainedTokenizerFast) -> dict[str, list[int]]:
    before = tokenizer(f"{prompt}\n")["input_ids"]
    after = [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]
    return {"input_ids": before + after, "labels": [_IGNORED] * len(before) + after}


def _collate(documents: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pads on the right; padding follows every label, so causal attention needs no mask."""
    longest = max(len(document["input_ids"]) for document in documents)
    fill = {"input_ids": 0, "labels": _IGNORED}
    return {
        key: torch.tensor([d[key] + [fill[key]] * (longest - len(d[key])) for d in documents])
        for key in ("input_ids", "labels")
    }


def _model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            initializer_range=_INITIALIZER,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _trainer(
    documents: list[dict[str, list[int]]],
    tokenizer: PreTrainedTokenizerFast,
    checkpoints: Path,
    seed: int,
    steps: int,
    progress: Callable[[int, int], None] | None,
) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=_BATCH,
        learning_rate=_LEARNING_RATE,
        lr_scheduler_type="linear",
        warmup_steps=min(20, steps // 2),
        weight_decay=0.01,
        adam_beta2=0.98,
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
    trainer = Trainer(
        model=_model(tokenizer),
        args=arguments,
        train_dataset=documents,
        data_collator=_collate,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class _Progress(TrainerCallback):
    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._progress(state.global_step, state.max_steps)
