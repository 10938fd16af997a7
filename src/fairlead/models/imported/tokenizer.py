"""Whether a model made elsewhere was trained with the project's tokenizer and chat template.

Base, SFT and DPO are asked with one tokenizer, or their answers could not be compared.
"""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from fairlead.config.model import ModelSection
from fairlead.errors import ModelError, some
from fairlead.models.chat import conversation_tokens, prompt_tokens
from fairlead.models.imported.source import ModelFiles
from fairlead.models.loading import load_tokenizer
from fairlead.records import Message, Prompt

_QUESTIONS = (
    Prompt((Message("user", "one"),)),
    Prompt((Message("system", "rule"), Message("user", "one"))),
    Prompt((Message("user", "one"), Message("assistant", "two"), Message("user", "three"))),
)


def check_tokenizer(files: ModelFiles, ours: PreTrainedTokenizerBase, section: ModelSection, folder: Path) -> list[str]:
    """Refuses a model whose own tokenizer or chat template differs from the project's.

    Args:
        ours: the project's tokenizer, with its template.

    Returns:
        What was assumed, one sentence each.

    Raises:
        ModelError: naming the tokens, or what a question becomes with either.
    """
    if not files.has_tokenizer:
        return ["it has no tokenizer with it, and is taken to be trained with the project's"]
    plain = section.model_copy(update={"chat_template": None, "tokenizer": None})
    theirs = load_tokenizer(plain, folder, source=str(files.folder))
    remedy = f"set model.tokenizer: {files.name}, so that base, SFT and DPO are all asked as it was trained"
    _check_vocabulary(files, ours, theirs)
    if ours.eos_token != theirs.eos_token:
        raise ModelError(
            f"it ends its answers with {theirs.eos_token}, the project's tokenizer with {ours.eos_token}",
            where=files.where,
            remedy=remedy,
        )
    if not has_template(files):
        return ["its tokenizer has no chat template, and it is taken to be trained with the project's"]
    for question in _QUESTIONS:
        asked, expected = _rendered(question, theirs), _rendered(question, ours)
        if asked != expected:
            raise ModelError(
                f"its chat template writes {theirs.decode(asked or [])!r} where the project's writes "
                f"{ours.decode(expected or [])!r}",
                where=files.where,
                remedy=remedy,
            )
    return []


def has_template(files: ModelFiles) -> bool:
    """Whether its tokenizer has a chat template of its own."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(files.folder))
    return tokenizer.chat_template is not None


def _check_vocabulary(files: ModelFiles, ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase) -> None:
    base, brought = ours.get_vocab(), theirs.get_vocab()
    if base == brought:
        return
    added, lost = sorted(brought.keys() - base.keys()), sorted(base.keys() - brought.keys())
    parts = [f"tokens of its own: {some(added, 4)}"] * bool(added) + [f"lacks {some(lost, 4)}"] * bool(lost)
    raise ModelError(
        f"its tokenizer has another vocabulary than the base's ({'; '.join(parts) or 'other ids for the same tokens'})",
        where=files.where,
        remedy="train it with the base's vocabulary, or make it the base: model.name, with sft: null",
    )


def _rendered(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """Token ids of a question and of its answer; None where the template does not take such turns."""
    try:
        return [*prompt_tokens(prompt, tokenizer), *conversation_tokens(prompt, "four", tokenizer)]
    except ModelError:
        return None
