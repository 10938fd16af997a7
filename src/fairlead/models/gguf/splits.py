"""How a vocabulary of byte-level BPE splits texts before merging, by the name in a GGUF file (`tokenizer.ggml.pre`).

Transformers takes GPT-2's rule for every name that it does not know. The names are those of llama.cpp's
src/llama-vocab.cpp.
"""

from __future__ import annotations

_LIKE_GPT2 = frozenset(
    (
        *("gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "a.x-4.0", "mellum", "exaone4"),
        *("mpt", "olmo", "jais", "trillion", "granite-docling"),
    )
)
# GPT-2's rule after every digit stands alone.
DIGITS_ALONE = frozenset(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"))
# Words that are tokens are not made by merging, which transformers leaves out too.
WHOLE_WORDS = frozenset(
    (
        *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"),
        "tekken",
    )
)


def known_splits() -> frozenset[str]:
    """The names that are read as they are meant."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return _LIKE_GPT2 | DIGITS_ALONE | frozenset(GGUF_PRE_TOKENIZER_SPLITS)
