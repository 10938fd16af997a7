"""The rows of the data files: whether they can be read, and whether there are enough of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from fairlead.config.data import PAIRS_DEMANDED
from fairlead.data.leaks import most_dev_prompts
from fairlead.data.prepare import with_system
from fairlead.data.reading.readers import read_examples, read_preferences, read_prompts
from fairlead.errors import DataError
from fairlead.preflight.problem import Problem
from fairlead.preflight.scope import Scope
from fairlead.records import Example, Preference, Prompt

T = TypeVar("T")


@dataclass(frozen=True)
class DataRows:
    """The rows of the data files, as far as they can be read, and what is wrong with the others.

    Attributes:
        files: how many rows each data file has, by its key.
    """

    sft: list[Example] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    preferences: list[Preference] = field(default_factory=list)
    eval: list[Prompt] = field(default_factory=list)
    dev: list[Prompt] = field(default_factory=list)
    problems: tuple[Problem, ...] = ()

    @property
    def files(self) -> dict[str, int]:
        names = ("sft", "prompts", "preferences", "eval", "dev")
        return {f"data.{name}": count for name in names if (count := len(getattr(self, name)))}

    def asked(self, system: str | None) -> list[tuple[str, Prompt]]:
        """(key, prompt) of all prompts that a model is to answer, with the project's system instruction."""
        groups = (("data.prompts", self.prompts), ("data.eval", self.eval), ("data.dev", self.dev))
        return [(key, with_system(prompt, system)) for key, prompts in groups for prompt in prompts]


def read_data(scope: Scope) -> DataRows:
    """Reads the data files that exist; those that do not are told of elsewhere. A data set of a hub is not loaded."""
    data, folder = scope.config.data, scope.folder
    problems: list[Problem] = []

    def rows(key: str, name: str | None, read: Callable[[Path], list[T]]) -> list[T]:
        if name is None or not scope.path(name).is_file():
            return []
        try:
            return read(scope.path(name))
        except DataError as error:
            problems.append(Problem.of(key, error))
            return []

    def ready(path: Path) -> list[Preference]:
        # A path that begins with the folder would be resolved against it once more.
        source = str(path.resolve())
        read = read_preferences(source, folder, split=data.preferences_split, format=data.preferences_format)
        return read.preferences

    return DataRows(
        sft=rows("data.sft", data.sft if scope.config.sft is not None else None, read_examples),
        prompts=rows("data.prompts", data.prompts, read_prompts),
        preferences=rows("data.preferences", data.preferences, ready),
        eval=rows("data.eval", data.eval, read_prompts),
        dev=rows("data.dev", data.dev, read_prompts),
        problems=tuple(problems),
    )


def too_few_rows(scope: Scope, rows: DataRows) -> Iterator[Problem]:
    """Rows that cannot be enough, however many of them are usable."""
    yield from _too_few_for_the_decision(scope, rows)
    yield from _too_few_pairs(scope, rows)


def insufficient_evidence(scope: Scope, rows: DataRows) -> Iterator[str]:
    """That the gate cannot pass, whatever the answers are worth."""
    demanded = scope.config.gate.min_prompts
    if scope.runs("gate") and 0 < len(rows.eval) < demanded:
        yield (
            f"data.eval: {len(rows.eval)} rows, and gate.min_prompts is {demanded}: the gate will find that this "
            "is not enough evidence"
        )


def _too_few_for_the_decision(scope: Scope, rows: DataRows) -> Iterator[Problem]:
    config = scope.config
    if not scope.decides:
        return
    key, dev = ("data.dev", len(rows.dev)) if config.data.dev else _drawn(rows, config.dev_prompts)
    if 0 < dev < config.decide.min_prompts:
        yield Problem(
            key,
            f"gives at most {dev} prompts for the decision, and decide.min_prompts is {config.decide.min_prompts}: "
            "it would end with not enough evidence, and nothing would be trained",
            "give more rows, a file of its own as data.dev, or decide: {waive: REASON}",
        )


def _drawn(rows: DataRows, dev_prompts: int) -> tuple[str, int]:
    """Where the prompts of the decision are drawn from, and how many there can be: at most a fifth."""
    counts = {"data.prompts": len(rows.prompts), "data.sft": len(rows.sft), "data.preferences": len(rows.preferences)}
    key, count = next(((key, count) for key, count in counts.items() if count), ("data.prompts", 0))
    return key, most_dev_prompts(count, dev_prompts)


def _too_few_pairs(scope: Scope, rows: DataRows) -> Iterator[Problem]:
    """The check of the pairs refuses the training: after the judge has been paid for them."""
    config = scope.config
    if not scope.runs("data_check") or "rows" in config.data_check.waive:
        return
    demanded = PAIRS_DEMANDED[config.data_check.purpose]
    one_each = bool(rows.prompts) and config.pairs.recipe in ("best_worst", "revision")
    key, most = ("data.prompts", len(rows.prompts)) if one_each else ("data.preferences", len(rows.preferences))
    if 0 < most < demanded:
        yield Problem(
            key,
            f"{most} rows make at most {most} pairs, and data_check.purpose {config.data_check.purpose} demands "
            f"{demanded}: training would be refused",
            "give more rows, set data_check.purpose: trial, or data_check: {waive: {rows: REASON}}",
        )
