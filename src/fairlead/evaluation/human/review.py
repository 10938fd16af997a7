"""Blind review: one person says which of two anonymous answers is better, comparison by comparison.

Every label is on the disk before the next question is asked. The comparisons come in one random order for all
reviewers, so that whoever stops early has labelled a random sample, and two reviewers have read the same ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fairlead.evaluation.human.labels import Label, by_place, label_row, read_labels
from fairlead.files import disk_errors, write_jsonl
from fairlead.records import Comparison, VerdictState, content_id

Choice = Literal["left", "right", "tie"]


@dataclass(frozen=True, slots=True)
class Question:
    """Two answers as a reviewer sees them.

    Attributes:
        number, of: which of how many this is; comparisons with equal answers are not asked.
    """

    prompt: str
    left: str
    right: str
    number: int
    of: int


class Review:
    """The labelling of one pair of models by one reviewer.

    Args:
        comparisons: the two models' answers to every prompt.
        path: file of labels, this reviewer's and others'; made with the first label.
        by: the reviewer.
        seed: of the order in which comparisons come.

    Raises:
        DataError: if the file cannot be read as labels.
    """

    def __init__(self, comparisons: Sequence[Comparison], path: Path, by: str, *, seed: int = 0) -> None:
        self._comparisons, self._path, self.by = comparisons, path, by
        self.labels = read_labels(path) if path.exists() else []
        order = np.random.default_rng(seed).permutation(len(comparisons)).tolist()
        self._order = [place for place in order if comparisons[place].first != comparisons[place].second]
        labelled = by_place(self.labels, comparisons)
        self._done = [place for place in self._order if any(label.by == by for label in labelled.get(place, []))]
        self._waiting = [place for place in self._order if place not in set(self._done)]

    def question(self) -> Question | None:
        """What is asked next; None when all is labelled."""
        if not self._waiting:
            return None
        comparison = self._comparisons[self._waiting[0]]
        answers = (comparison.first, comparison.second)
        left, right = reversed(answers) if self._turned(comparison) else answers
        return Question(comparison.prompt.text, left, right, len(self._done) + 1, len(self._order))

    def answer(self, choice: Choice) -> None:
        """Writes the label of the present question and goes on to the next."""
        place = self._waiting.pop(0)
        comparison = self._comparisons[place]
        first = "right" if self._turned(comparison) else "left"
        state = VerdictState.TIE if choice == "tie" else VerdictState.WIN if choice == first else VerdictState.LOSS
        label = Label(comparison, state, self.by)
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(label_row(label), ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        self.labels.append(label)
        self._done.append(place)

    def skip(self) -> None:
        """Asks the present question again after all others."""
        self._waiting.append(self._waiting.pop(0))

    def undo(self) -> bool:
        """Takes this reviewer's last label back and asks for it again; False if there is none."""
        if not self._done:
            return False
        place = self._done.pop()
        taken = next(
            label for label in self.labels if label.by == self.by and place in by_place([label], self._comparisons)
        )
        self.labels.remove(taken)
        write_jsonl(self._path, map(label_row, self.labels))
        self._waiting.insert(0, place)
        return True

    def _turned(self, comparison: Comparison) -> bool:
        """Whether the first answer stands on the right: as good as random, and the same when it is asked again."""
        return int(content_id("place", comparison.id, self.by), 16) % 2 == 1
