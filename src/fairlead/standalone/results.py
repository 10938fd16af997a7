"""What the pieces return: scores of answers, and preference pairs, each with what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead.documents.pairs import PairOutcome
from fairlead.errors import FairleadError, known_names
from fairlead.files import write_jsonl
from fairlead.records import (
    Completion,
    Flag,
    Interval,
    Preference,
    Prompt,
    ScoreState,
    Verdict,
    VerdictState,
    message_dicts,
    to_json,
)
from fairlead.standalone.tables import Table, interval_text, paragraph_html, shares


@dataclass(frozen=True)
class ScoredAnswer:
    """One answer with its score.

    Attributes:
        answer: None where the model gave none.
        criterion: what was scored; `judge_score` where no criterion was named.
        score: from 1 to 10; None unless `state` is scored.
        reason: the judge's words, or why there is no score.
        calls: keys of the replies in the ledger.
        flags: what people should look at.
    """

    prompt: Prompt
    answer: str | None
    criterion: str
    score: float | None
    state: ScoreState
    reason: str = ""
    calls: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class CriterionScores:
    """All scores by one criterion.

    Attributes:
        interval: the mean with its 95 % interval; prompts of one cluster count as one group.
        answers: one per prompt, in the order given.
    """

    name: str
    interval: Interval
    answers: tuple[ScoredAnswer, ...]

    @property
    def mean(self) -> float | None:
        """The mean of the scores that there are; None where there is none."""
        return self.interval.value

    @property
    def scores(self) -> list[float | None]:
        """One score per prompt, None where it is missing."""
        return [answer.score for answer in self.answers]

    @property
    def missing(self) -> int:
        """How many answers have no score. They are not part of the mean."""
        return sum(answer.state.missing for answer in self.answers)

    @property
    def states(self) -> dict[str, int]:
        """How many answers have each state."""
        counts = Counter(answer.state for answer in self.answers)
        return {str(state): counts[state] for state in ScoreState}


@dataclass(frozen=True, repr=False)
class JudgedAnswers:
    """Scores of answers, criterion by criterion.

    `mean`, `interval`, `scores` and `missing` are those of the one criterion; where there are several, name one:
    `result["faithfulness"].mean`.

    Attributes:
        judge: identity of the judge: kind, model, version of its templates.
    """

    judge: str
    criteria: tuple[CriterionScores, ...]

    def __getitem__(self, name: str) -> CriterionScores:
        for criterion in self.criteria:
            if criterion.name == name:
                return criterion
        raise FairleadError(f"no scores of {name!r}", remedy=known_names(name, [c.name for c in self.criteria]))

    @property
    def mean(self) -> float | None:
        return self._only.mean

    @property
    def interval(self) -> Interval:
        return self._only.interval

    @property
    def scores(self) -> list[float | None]:
        return self._only.scores

    @property
    def missing(self) -> int:
        return self._only.missing

    @property
    def answers(self) -> tuple[ScoredAnswer, ...]:
        return self._only.answers

    @property
    def _only(self) -> CriterionScores:
        if len(self.criteria) == 1:
            return self.criteria[0]
        first = self.criteria[0].name
        raise FairleadError("there are scores by several criteria", remedy=f"name one: result[{first!r}].mean")

    def table(self) -> Table:
        """A row per criterion: mean, interval, how many scores there are and how many are missing."""
        rows = [(c.name, c.mean, c.interval.low, c.interval.high, c.interval.n, c.missing) for c in self.criteria]
        return Table(("criterion", "mean", "low", "high", "n", "missing"), tuple(rows))

    def rows(self) -> Table:
        """A row per answer and criterion."""
        columns = ("prompt", "answer", "criterion", "score", "state", "reason")
        rows = [
            (a.prompt.text, a.answer, a.criterion, a.score, str(a.state), a.reason)
            for criterion in self.criteria
            for a in criterion.answers
        ]
        return Table(columns, tuple(rows))

    def to_pandas(self) -> Any:
        """`rows()` as a `pandas.DataFrame`."""
        return self.rows().to_pandas()

    def to_json(self) -> dict[str, Any]:
        """The figures and every answer's scores, as JSON values."""
        return {
            "judge": self.judge,
            "criteria": {
                c.name: {
                    "mean": c.mean, "low": c.interval.low, "high": c.interval.high, "n": c.interval.n,
                    "method": c.interval.method, "missing": c.missing, "states": c.states,
                }
                for c in self.criteria
            },
            "answers": self._records(),
        }  # fmt: skip

    def write(self, path: Path | str) -> None:
        """Writes one line of JSON per answer, with its scores by criterion."""
        write_jsonl(Path(path), self._records())

    def _records(self) -> list[dict[str, Any]]:
        return [
            {
                "prompt": message_dicts(of_prompt[0].prompt.messages),
                "answer": of_prompt[0].answer,
                "scores": {a.criterion: a.score for a in of_prompt},
                "states": {a.criterion: str(a.state) for a in of_prompt},
                "reasons": {a.criterion: a.reason for a in of_prompt},
                "calls": {a.criterion: list(a.calls) for a in of_prompt},
                "flags": sorted({str(flag) for a in of_prompt for flag in a.flags}),
            }
            for of_prompt in zip(*(criterion.answers for criterion in self.criteria), strict=True)
        ]

    def __repr__(self) -> str:
        lines = [
            f"{c.name}: {interval_text(c.interval)} of 1 to 10, n {c.interval.n}, {c.missing} missing"
            for c in self.criteria
        ]
        return "\n".join([*lines, f"judge: {self.judge}"])

    def _repr_html_(self) -> str:
        return self.table()._repr_html_() + paragraph_html(f"judge: {self.judge}")


@dataclass(frozen=True, repr=False)
class PreferenceSet:
    """Preference pairs with all that they were made from.

    It has a length, can be iterated and indexed like a list of `Preference`.

    Attributes:
        judge: identity of the judge.
        pairs: the triples {prompt, chosen, rejected}, each with its margin and provenance.
        outcomes: what became of the comparisons.
        completions: everything that was drawn.
        verdicts: everything that the judge said, the missing ones included.
    """

    judge: str
    pairs: tuple[Preference, ...]
    outcomes: dict[PairOutcome, int] = field(default_factory=dict)
    completions: tuple[Completion, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Preference]:
        return iter(self.pairs)

    def __getitem__(self, number: int) -> Preference:
        return self.pairs[number]

    @property
    def missing(self) -> int:
        """How many comparisons have no verdict; none of them makes a pair."""
        return sum(verdict.missing for verdict in self.verdicts)

    @property
    def states(self) -> dict[str, int]:
        """How many verdicts have each state."""
        counts = Counter(verdict.state for verdict in self.verdicts)
        return {str(state): counts[state] for state in VerdictState}

    def table(self) -> Table:
        """A row per pair."""
        columns = ("prompt", "chosen", "rejected", "margin")
        return Table(columns, tuple((p.prompt.text, p.chosen, p.rejected, p.margin) for p in self.pairs))

    def to_pandas(self) -> Any:
        """`table()` as a `pandas.DataFrame`."""
        return self.table().to_pandas()

    def to_dataset(self) -> Any:
        """A `datasets.Dataset` in TRL's conversational form, as `DPOTrainer(train_dataset=…)` takes it."""
        from datasets import Dataset

        from fairlead.data.export import trl

        return Dataset.from_list([trl(pair) for pair in self.pairs])

    def write(self, path: Path | str) -> None:
        """Writes the pairs in Fairlead's form, which `data.preferences` of a project reads."""
        write_jsonl(Path(path), map(to_json, self.pairs))

    def __repr__(self) -> str:
        pairs = "preference pair" if len(self.pairs) == 1 else "preference pairs"
        outcomes = [(str(name).replace("_", " "), count) for name, count in sorted(self.outcomes.items())]
        return (
            f"{len(self.pairs)} {pairs} from {len(self.completions)} completions; "
            f"verdicts: {shares(list(self.states.items()))}; comparisons: {shares(outcomes)}\njudge: {self.judge}"
        )

    def _repr_html_(self) -> str:
        return paragraph_html(repr(self)) + self.table()._repr_html_()
