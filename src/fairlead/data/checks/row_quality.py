"""What is wrong with SFT rows and prompts, found before anything is trained on them or sampled for them.

The checks of `data.quality` that make sense for one answer or none, and whether a row fits into `max_length` tokens.
Knows nothing of files: the caller says where each row stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from fairlead.config.data import DataCheckSettings
from fairlead.data.checks import text_quality
from fairlead.data.checks.faults import Faults, note_texts, spaced
from fairlead.data.checks.findings import Mend, by_share, eval_overlap, note_dropped, report_of, topics_finding
from fairlead.documents.data_check import DataCheck
from fairlead.records import DropReason, Example, Prompt
from fairlead.text.minhash import MinHashIndex
from fairlead.text.repetition import texts_with_loops
from fairlead.text.words import Vocabulary, asked

TokenCount = Callable[[Example | Prompt], int]

_OF_BOTH = (
    "unusable",
    "empty",
    "exact_duplicates",
    "near_duplicates",
    "looping",
    "template_tokens",
    "mixed_languages",
    "secrets",
    "email_addresses",
)
_OF_ANSWERS = ("truncated",)
_MORE = "add prompts of others"


def check_rows(
    rows: Sequence[Example | Prompt],
    places: Sequence[str],
    settings: DataCheckSettings,
    *,
    source: str,
    similarity: float,
    mend: Mend,
    is_sft: bool,
    dropped: Sequence[tuple[str, DropReason]] = (),
    eval_texts: Sequence[str] | None = None,
    tokens: TokenCount | None = None,
    max_length: int = 0,
) -> DataCheck:
    """Checks SFT rows or prompts.

    Args:
        places: where each row stands, such as a line number.
        source: the file or stage.
        similarity: Jaccard similarity of 5-word shingles from which texts count as near-duplicates.
        mend: the command, or the step, that leaves out the rows of a check.
        is_sft: whether they are SFT rows.
        dropped: (place, reason) of what makes no row, as reading found it.
        eval_texts: what the held-out prompts ask; None where there are none to compare with.
        tokens: how many tokens a row has; None where no tokenizer is named.
        max_length: tokens that a row may have; it is not read without `tokens`.
    """
    faults = Faults()
    prompts = [row.prompt if isinstance(row, Example) else row for row in rows]
    answers = [row.answer if isinstance(row, Example) else "" for row in rows]
    _repeats(prompts, answers, places, similarity, faults)
    for prompt, answer, place in zip(prompts, answers, places, strict=True):
        if not prompt.text.strip() or (is_sft and not answer.strip()):
            faults.add("empty", place)
        note_texts(prompt, [answer] if is_sft else [], place, faults)
        if is_sft and text_quality.is_truncated(answer):
            faults.add("truncated", place)
    if not is_sft:
        _other_languages(prompts, places, faults)
    names = [*_OF_BOTH, *(_OF_ANSWERS if is_sft else ())]
    if tokens is not None:
        names.append("too_long")
        for row, place in zip(rows, places, strict=True):
            if tokens(row) > max_length:
                faults.add("too_long", place)
    total = len(rows) + note_dropped(faults, dropped)
    measured = dict(by_share(faults, names, total, mend, "rows"))
    if eval_texts is not None:
        measured["eval_overlap"] = eval_overlap(prompts, places, eval_texts, similarity, total, mend, "rows")
    measured["topics"] = topics_finding(prompts, _MORE)
    return report_of(source, "sft" if is_sft else "prompts", len(rows), measured, settings)


def _repeats(
    prompts: Sequence[Prompt], answers: Sequence[str], places: Sequence[str], similarity: float, faults: Faults
) -> None:
    """Rows that repeat an earlier one, exactly or nearly, and rows whose answer, or whose prompt alone, loops."""
    vocabulary = Vocabulary()
    index = MinHashIndex(similarity)
    texts = [asked(prompt) for prompt in prompts]  # an instruction that all prompts carry makes no duplicates of them
    words = [(vocabulary.words(text), vocabulary.words(answer)) for text, answer in zip(texts, answers, strict=True)]
    index.add([np.concatenate(both) for both in words])
    of_prompts = texts_with_loops(texts, [of_prompt for of_prompt, _ in words])
    of_answers = texts_with_loops(answers, [of_answer for _, of_answer in words])
    seen: set[tuple[str, str]] = set()
    first: dict[int, str] = {}
    for place, prompt, answer, cluster, prompt_loops, answer_loops in zip(
        places, prompts, answers, index.clusters(), of_prompts, of_answers, strict=True
    ):
        text = (spaced(prompt.text), answer.strip())
        if text in seen:
            faults.add("exact_duplicates", place)
        elif cluster in first:
            faults.add("near_duplicates", place)
        seen.add(text)
        first.setdefault(cluster, place)
        if answer_loops or prompt_loops:
            faults.add("looping", place, "answer" if answer_loops else "prompt")


def _other_languages(prompts: Sequence[Prompt], places: Sequence[str], faults: Faults) -> None:
    """Prompts in another language than most of those whose language is clear."""
    languages = [text_quality.language(asked(prompt)) for prompt in prompts]
    counts = Counter(language for language in languages if language is not None)
    if not counts:
        return
    ((most, _),) = counts.most_common(1)
    for place, language in zip(places, languages, strict=True):
        if language not in (None, most):
            faults.add("mixed_languages", place, f"{language}, and most are in {most}")
