"""How well a model meets a judge's criteria: it answers prompts, and the judge scores the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairlead.models.generation import CompletionRequest
from fairlead.progress import Progress, adding
from fairlead.records import Sampling
from fairlead.standalone.answering import name_of, open_answerer
from fairlead.standalone.inputs import GivenAnswer, prompts_from
from fairlead.standalone.judging import (
    MAX_MISSING,
    CriteriaLike,
    JudgeLike,
    judges_by_row,
    opened,
    progress_of,
    read_criteria,
    score_all,
)
from fairlead.standalone.results import JudgedAnswers


def evaluate_alignment(
    model: Any,
    tokenizer: Any = None,
    prompts: Any = (),
    judge: JudgeLike = "",
    *,
    criteria: CriteriaLike | None = None,
    system: str | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_new_tokens: int = 256,
    batch_size: int = 32,
    seed: int = 0,
    max_missing: float = MAX_MISSING,
    folder: Path | str = ".",
    progress: bool | Progress = True,
) -> JudgedAnswers:
    """Lets a model answer prompts and a judge score the answers from 1 to 10.

    Args:
        model: a transformers or PEFT model, a folder or hub id, or a function from a prompt to an answer. A function is
            given the text of a prompt of one user turn, else its turns as {role, content}; it may be async, and may
            return None where it has no answer.
        tokenizer: that of a model which is loaded already; the one of its repository if None.
        prompts: texts, rows {prompt, gold?, cluster?, source?}, or a file of such rows.
        judge: a text such as `openai:gpt-4.1@http://localhost:8000/v1`, or the settings of a judge.
        criteria: names of built-in criteria, or {name: text}; each is scored by itself. The judge's own if None.
        system: system instruction for prompts that have none.
        temperature: 0 answers greedily.
        max_missing: share of the judge's scores that may be missing.
        folder: where the ledger lies (`.fairlead/ledger.sqlite`), and from where files of the judge are found.
        progress: whether bars are shown.

    Raises:
        FairleadError: with what is wrong and what would be right.
    """
    bars, judged_criteria = progress_of(progress), read_criteria(criteria)
    asked = prompts_from(prompts, system=system, sourced=any(criterion.source for criterion in judged_criteria))
    with opened(judge, Path(folder)) as open_judge:  # before the model answers: a wrong judge is found at once
        judges = judges_by_row(open_judge, judged_criteria)
        sampling = Sampling(temperature, top_p, max_new_tokens)
        requests = [CompletionRequest(prompt, sampling, model=name_of(model)) for prompt in asked]
        with (
            bars.task("answers", "prompts", len(requests)) as bar,
            open_answerer(model, tokenizer, batch_size=batch_size, seed=seed, advance=adding(bar)) as answer,
        ):
            completions = answer(requests)
        answers = [
            GivenAnswer(prompt, None if completion is None else completion.text)
            for prompt, completion in zip(asked, completions, strict=True)
        ]
        return score_all(answers, open_judge.name, judges, max_missing=max_missing, progress=bars)
