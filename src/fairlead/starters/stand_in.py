"""The tiny model of an example project, trained on its rows in seconds, so that the example runs without a download."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from fairlead.data.reading.readers import read_examples, read_preferences
from fairlead.demo.base_model import train_base
from fairlead.files import write_jsonl
from fairlead.progress import Progress
from fairlead.starters.write import STAND_IN

_STEPS = 40
_OFFSETS = (0, 3, 7)  # whose answers stand after a prompt: its own, and those of two other rows


def train_stand_in(folder: Path, *, progress: Progress) -> Path:
    """Writes a model that has seen the example's rows with right and wrong answers, so that its answers vary.

    Args:
        folder: the folder of the example project.
    """
    out = folder / STAND_IN
    with tempfile.TemporaryDirectory() as scratch, progress.task("init", "a tiny model for the example", 1) as bar:
        corpus = Path(scratch) / "corpus.jsonl"
        write_jsonl(corpus, _corpus(folder / "data"))
        train_base(corpus, out, seed=0, steps=_STEPS, progress=lambda done, total: bar.update(done, total=total))
    return out


def _corpus(data: Path) -> Iterator[dict[str, str]]:
    for prompt, answers in _rows(data):
        yield from ({"prompt": prompt, "answer": answer} for answer in answers)


def _rows(data: Path) -> list[tuple[str, Sequence[str]]]:
    """Every prompt with the answers that the model sees after it."""
    if (data / "pairs.jsonl").exists():
        pairs = read_preferences("pairs.jsonl", data).preferences
        return [(pair.prompt.text, (pair.chosen, pair.rejected)) for pair in pairs]
    examples = read_examples(data / "sft.jsonl")
    return [
        (example.prompt.text, [examples[(number + offset) % len(examples)].answer for offset in _OFFSETS])
        for number, example in enumerate(examples)
    ]
