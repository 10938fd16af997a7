"""How many tokens each stage needs at least: every beginning that rows have in common is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from benchmarks.way.work import Work
from fairlead.files import read_jsonl
from fairlead.models.chat import conversation_tokens, prompt_tokens
from fairlead.pipeline import datasets
from fairlead.records import Prompt


def distinct_prefixes(rows: Iterable[Sequence[int]]) -> int:
    """Tokens of rows after what each has in common with another."""
    count = 0
    before: tuple[int, ...] = ()
    for row in sorted(map(tuple, rows)):
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(row, before, strict=False)))
        count += len(row) - common
        before = row
    return count


def needed_of(weights: Path, project: Path, pairs: Path, work: Work, new_tokens: dict[str, int]) -> dict[str, int]:
    """Forward passes of tokens by stage, as many as no way can do without.

    A DPO step needs policy and reference; an answer of base, SFT and DPO has three models.

    Args:
        new_tokens: that were generated, by stage.
    """
    tokenizer = AutoTokenizer.from_pretrained(weights)

    def prompts(name: str) -> int:
        return distinct_prefixes(prompt_tokens(Prompt.of(row["prompt"]), tokenizer) for row in _rows(project, name))

    said = (conversation_tokens(Prompt.of(row["prompt"]), row["answer"], tokenizer) for row in _rows(project, "sft"))
    both = (
        conversation_tokens(pair.prompt, text, tokenizer)
        for pair in datasets.preferences(pairs)
        for text in (pair.chosen, pair.rejected)
    )
    return {
        "sft": work.epochs * distinct_prefixes(said),
        "sample": prompts("prompts") + new_tokens["sample"],
        "dpo": 2 * distinct_prefixes(both),
        "answers": 3 * prompts("eval") + new_tokens["answers"],
    }


def _rows(project: Path, name: str) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(project / "data" / f"{name}.jsonl")]
