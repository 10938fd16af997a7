"""How many tokens a row has, as training counts them."""

from __future__ import annotations

from pathlib import Path

from fairlead.config.model import ModelSection
from fairlead.data.checks.row_quality import TokenCount
from fairlead.models.chat import conversation_tokens, prompt_tokens
from fairlead.records import Example, Prompt


def token_count(model: ModelSection, folder: Path) -> TokenCount:
    """Counts the tokens of an SFT row or a prompt, through the model's chat template.

    Raises:
        ModelError: if the tokenizer cannot be loaded.
    """
    from fairlead.models.loading import load_tokenizer

    tokenizer = load_tokenizer(model, folder)

    def count(row: Example | Prompt) -> int:
        if isinstance(row, Example):
            return len(conversation_tokens(row.prompt, row.answer, tokenizer))
        return len(prompt_tokens(row, tokenizer))

    return count
