"""The tokenizer of a GGUF file, with what transformers' conversion loses."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fairlead.models.gguf.header import Header
from fairlead.models.gguf.splits import DIGITS_ALONE, WHOLE_WORDS

_ANSWER = "fairlead's answer"


def load_tokenizer(path: Path, header: Header) -> PreTrainedTokenizerFast:
    """The tokenizer of a file, with its chat template if it has one."""
    read = PreTrainedTokenizerFast.from_pretrained(str(path.parent), gguf_file=path.name)
    backend = _without_new_tokens(read.backend_tokenizer, int(header.values["tokenizer.ggml.tokens"]))
    if header.pre_tokenizer in DIGITS_ALONE:
        _split_digits(backend)
    if header.pre_tokenizer in WHOLE_WORDS:
        backend.model.ignore_merges = True
    named = {name: getattr(read, name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    known = backend.get_vocab()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, **{name: token for name, token in named.items() if token in known}
    )
    tokenizer.chat_template = read.chat_template
    if header.context_length is not None:
        tokenizer.model_max_length = header.context_length
    return tokenizer


def _without_new_tokens(tokenizer: Tokenizer, size: int) -> Tokenizer:
    """Only the first `size` tokens: transformers adds GPT-2's end of text to a vocabulary that lacks it."""
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < size]
    return Tokenizer.from_str(json.dumps(state))


def end_tokens(tokenizer: PreTrainedTokenizerFast, header: Header) -> list[int]:
    """The tokens that end an answer: those that the file names, and the one that its chat template puts after a turn.

    A base model's end of text is often another token than its chat template's end of turn.
    """
    named = (header.values.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
    ends = {number for number in named if isinstance(number, int)}
    if tokenizer.chat_template is not None:
        ends |= _after_a_turn(tokenizer)
    return sorted(ends)


def _after_a_turn(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # a template may raise anything; `load_tokenizer` of a model says what is wrong with it
        return set()
    after = tokenizer(text.rpartition(_ANSWER)[2], add_special_tokens=False)["input_ids"]
    return {token for token in after[:1] if token in tokenizer.all_special_ids or _is_special(tokenizer, token)}


def _is_special(tokenizer: PreTrainedTokenizerFast, token: int) -> bool:
    added = tokenizer.added_tokens_decoder.get(token)
    return added is not None and bool(added.special)


def _split_digits(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
