"""DPO on pairs that people judged, with a real model: `make bench-preferences-real`; writes out/preferences-real.json.

The data lies beside the checkout, in ../shared/data (--data names another folder). Each file is read and split as
Fairlead's own `data import` and `data split` do, a third of the prompts held out, near-duplicates on one side. Of every
file: whether DPO's implicit reward ranks the held-out pairs as people did, against the length of the answers alone and
against the base's own log-probability. On PandaLM's pairs also what other losses change, and the same training by TRL's
own trainer with the reference computed beforehand, the fastest of its settings in `make bench-dpo`.

--pairs and --held-out say how many pairs of PandaLM's are used, whole prompts at a time; of the files with longer rows
fewer are (SHARES). --full takes all pairs, and longer rows. --model takes a hub id, a folder, a .gguf file or
package:NAME/FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np

from benchmarks import DATA, OUT
from benchmarks.apart import FAIRLEAD, TRL, machine_text, measured_peaks, precision_of, run_apart
from benchmarks.preferences_real.judged_pairs import (
    BASE,
    BASE_PER_TOKEN,
    LONGER,
    HeldOut,
    Sizes,
    Split,
    interval_text,
    markdown,
    read_split,
)
from fairlead.config.model import ModelSection
from fairlead.demo.pretrained import model_name
from fairlead.errors import FairleadError
from fairlead.files import write_json, write_jsonl
from fairlead.models.loading import load_tokenizer
from fairlead.records import content_id, to_json

FIGURES = OUT / "preferences-real.json"
FILES = {"pandalm": "pandalm_human.jsonl", "qa_feedback": "qa_feedback.jsonl", "dpo_en_demo": "dpo_en_demo.json"}
# Of --pairs and --held-out, so that files with longer rows take no longer.
SHARES = {"pandalm": 1.0, "qa_feedback": 0.6, "dpo_en_demo": 0.25}
COMPARED = "pandalm"  # with TRL and with other losses: its rows are the shortest
RATE, HIGH_RATE = 5e-5, 5e-4
NO_LIMIT: Sizes = (None, None)
LABEL_ERROR = 0.1  # that `robust` is told


@dataclass(frozen=True)
class Training:
    """One way to train; the documented settings where nothing is said."""

    name: str
    loss: tuple[str, ...] = ("sigmoid",)
    learning_rate: float = RATE
    label_smoothing: float = 0.0
    batch_by: str = "prompt"
    contender: str = "fairlead"


PLAIN = Training("sigmoid")
LOSSES = (
    Training("sigmoid + sft", ("sigmoid", "sft")),
    Training("sigmoid_norm", ("sigmoid_norm",)),
    Training("apo_zero", ("apo_zero",)),
    Training(f"robust, error {LABEL_ERROR:g}", ("robust",), label_smoothing=LABEL_ERROR),
)
# The same training by both: the order of the pairs, the reference before the first step, no checkpointing.
OURS = Training("Fairlead, TRL's pairs", batch_by="row")
THEIRS = Training("TRL", contender="trl, precomputed")


def faster(training: Training) -> Training:
    """The same at ten times the documented learning rate."""
    return replace(training, name=f"{training.name}, lr {HIGH_RATE:g}", learning_rate=HIGH_RATE)


# The trainings


@dataclass
class Lab:
    """Trainings of one model on one file's pairs, and what the models say of the held-out ones."""

    split: Split
    folder: Path
    model: str
    dtype: str
    max_length: int
    seed: int
    adapters: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        for name, pairs in (("train", self.split.train), ("held_out", self.split.held_out)):
            write_jsonl(self.folder / f"{name}.jsonl", map(to_json, pairs))

    def train(
        self, training: Training, *, pairs: int | None = None, cache: str = "reference", keep: bool = True
    ) -> dict[str, Any]:
        """Trains in a process of its own.

        Args:
            pairs: how many pairs at most, all if None.
            cache: name of the file of the reference's log-probabilities; a new one lets the reference be computed anew.
            keep: whether `score` is to score the adapter.
        """
        name, file = training.name, self.folder / "train.jsonl"
        if pairs is not None:
            file = self.folder / f"first-{pairs}.jsonl"
            write_jsonl(file, map(to_json, self.split.train[:pairs]))
        out = self.folder / content_id(name, pairs, cache)
        spec = {
            "contender": training.contender.split(",")[0],
            "settings": {**FAIRLEAD, **TRL}[training.contender],
            "model": self.model,
            "dtype": self.dtype,
            "max_length": self.max_length,
            "seed": self.seed,
            "pairs": str(file),
            "out": str(out),
            "loss_type": list(training.loss),
            "label_smoothing": training.label_smoothing,
            "learning_rate": training.learning_rate,
            "batch_by": training.batch_by,
            "reference_cache": str(self.folder / f"{cache}.sqlite"),
        }
        result = run_apart("benchmarks.preferences_real.dpo_run", "train", json.dumps(spec), offline=False)
        if result is None:
            sys.exit(f"{name} ran out of memory")
        if keep:
            self.adapters[name] = str(out)
        loss = result["loss"]
        quarter = len(loss) // 4 or 1
        first, last = statistics.fmean(loss[:quarter]), statistics.fmean(loss[-quarter:])
        print(
            f"  {name:28} {result['seconds']:6.1f} s, {result['peak_gib']:5.2f} GiB, {len(loss)} steps, loss of the "
            f"first quarter {first:.3f}, of the last {last:.3f}",
            flush=True,
        )
        return result

    def score(self, compute: str, names: Sequence[str]) -> HeldOut:
        """What base and policies say of the held-out pairs, computed in the type `compute`."""
        spec = {
            "model": self.model,
            "dtype": self.dtype,
            "compute": compute,
            "pairs": str(self.folder / "held_out.jsonl"),
            "adapters": {name: self.adapters[name] for name in names},
        }
        scores = run_apart("benchmarks.preferences_real.dpo_run", "score", json.dumps(spec), offline=False)
        if scores is None:
            sys.exit("scoring the held-out pairs ran out of memory")
        clusters = [pair.prompt.id for pair in self.split.held_out]
        tokens, base = np.array(scores["tokens"], dtype=float), np.array(scores["base"])
        policies = {name: np.array(values) for name, values in scores["adapters"].items()}
        return HeldOut(tokens, base, policies, clusters)


# The parts of the benchmark


def against_trl(lab: Lab, pairs: int) -> dict[str, Any]:
    """The same training by both, Fairlead's before and after TRL's, the reference computed anew each time."""
    before, trl, after = (
        lab.train(training, pairs=pairs, cache=f"{pairs} pairs, {number}", keep=number < 2)
        for number, training in enumerate((OURS, THEIRS, OURS))
    )
    ratios = {
        "seconds": [trl["seconds"] / ours["seconds"] for ours in (before, after)],
        "memory": [ours["peak_gib"] / trl["peak_gib"] for ours in (before, after)],
    }
    print(
        f"  Fairlead on these {pairs} pairs: " + ", ".join(f"{ratio:.1f}" for ratio in ratios["seconds"])
        + " times as fast as TRL, " + ", ".join(f"{ratio:.2f}" for ratio in ratios["memory"]) + " of its memory",
        flush=True,
    )  # fmt: skip
    return {"ratios": ratios, "runs": {OURS.name: [before, after], THEIRS.name: [trl]}}


def of_file(lab: Lab, trl_pairs: int) -> dict[str, Any]:
    """Every training on one file, and its table.

    Args:
        trl_pairs: on how many pairs TRL trains too; with 0 there is neither TRL nor another loss.
    """
    print(f"  {lab.split.words}", flush=True)
    result: dict[str, Any] = {"pairs": lab.split.words}
    if trl_pairs:
        result["trl"] = against_trl(lab, trl_pairs)
    for training in (PLAIN, faster(PLAIN), *(LOSSES if trl_pairs else ())):
        lab.train(training)
    held_out = lab.score("float32", list(lab.adapters))
    result["rows"] = held_out.rows()
    print(f"\n{markdown(result['rows'], (LONGER, BASE, BASE_PER_TOKEN))}\n", flush=True)
    if trl_pairs:
        trained = [row for row in result["rows"] if "margin" in row]
        print(f"{markdown(trained, (PLAIN.name, OURS.name))}\n", flush=True)
        result["same_margins"] = correlation = held_out.correlation(OURS.name, THEIRS.name)
        print(f"  margins of {OURS.name} and {THEIRS.name}: correlation {correlation or 0.0:.3f}", flush=True)
        result["rounding"] = rounding(lab, held_out)
    return result


def rounding(lab: Lab, exact: HeldOut) -> dict[str, Any]:
    """What becomes of the two plain trainings' margins where they are computed in the type of the training."""
    names = (PLAIN.name, faster(PLAIN).name)
    rounded = lab.score(lab.dtype, names)
    figures = {}
    for name in names:
        accuracy = next(row["accuracy"] for row in rounded.rows() if row["name"] == name)
        error = float((rounded.margins(name) - exact.margins(name)).std())
        figures[name] = {"accuracy": accuracy, "error": error, "spread": float(exact.margins(name).std())}
        print(
            f"  {name}, computed in {lab.dtype}: accuracy {interval_text(accuracy)}; its margins, of a standard "
            f"deviation of {figures[name]['spread']:.3f} nats, are off by {error:.3f}",
            flush=True,
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--files", nargs="*", default=list(FILES), choices=FILES)
    parser.add_argument("--pairs", type=int, default=160, help="pairs to train on, at most")
    parser.add_argument("--held-out", type=int, default=160, help="pairs to hold out, at most")
    parser.add_argument("--trl-pairs", type=int, default=48, help="training pairs of the comparison with TRL")
    parser.add_argument("--full", action="store_true", help="all pairs, rows of up to 2,048 tokens")
    parser.add_argument("--max-length", type=int, help="tokens of a row; 1,024, with --full 2,048")
    parser.add_argument("--precision", choices=("fastest", "float32", "bfloat16"), default="fastest")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    absent = [FILES[name] for name in options.files if not (options.data / FILES[name]).is_file()]
    if absent:
        sys.exit(f"{options.data}: {', '.join(absent)} not found — name the folder of the data with --data")
    max_length = options.max_length or (2048 if options.full else 1024)
    peaks = measured_peaks()
    dtype = precision_of(options.precision, peaks)
    print(f"{machine_text(peaks)}; {options.model} trains in {dtype}", flush=True)
    started = time.monotonic()
    try:
        model = model_name(options.model)
        result: dict[str, Any] = {"model": model, "peaks": peaks, "dtype": dtype, "files": {}}
        tokenizer = load_tokenizer(ModelSection(name=model), Path())
        with tempfile.TemporaryDirectory() as scratch:
            for name in options.files:
                print(f"\n{name}", flush=True)
                share = SHARES[name]
                sizes: Sizes = (round(share * options.pairs), round(share * options.held_out))
                split = read_split(
                    options.data / FILES[name], tokenizer, max_length, options.seed, NO_LIMIT if options.full else sizes
                )
                lab = Lab(split, Path(scratch) / name, model, dtype, max_length, options.seed)
                result["files"][name] = of_file(lab, options.trl_pairs if name == COMPARED else 0)
                write_json(FIGURES, result)  # a file takes long; what is measured stays when a later one is stopped
    except FairleadError as error:
        sys.exit(str(error))
    print(f"{(time.monotonic() - started) / 60:.1f} min")


if __name__ == "__main__":
    main()
