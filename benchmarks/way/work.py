"""What both ways are given: rows, settings, and the project's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import ADVISORIES
from benchmarks.sft import INSTRUCTION
from fairlead.config.reference.editor import write_config
from fairlead.files import read_jsonl, write_jsonl

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
LORA = {"r": 16, "alpha": 32, "dropout": 0.0}  # without dropout, so that losses can be compared


@dataclass(frozen=True)
class Work:
    """Sizes and settings that both ways have in common.

    Attributes:
        max_new_tokens: of a completion and of an answer.
    """

    sft_rows: int = 300
    prompts: int = 400
    completions: int = 4
    answers: int = 150
    epochs: int = 1
    batch_size: int = 8
    sft_rate: float = 2e-4
    dpo_rate: float = 5e-5
    beta: float = 0.1
    temperature: float = 1.0
    max_new_tokens: int = 48
    max_length: int = 400
    seed: int = 0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Work:
        return cls(**values)

    def values(self) -> dict[str, Any]:
        return asdict(self)


def make_project(folder: Path, model: str, dtype: str, work: Work) -> None:
    """Writes the data and the `fairlead.yaml`; a third of the advisories' packages is in no two of the files.

    Raises:
        SystemExit: if the advisories do not suffice.
    """
    rows = _advisories()
    ends = work.sft_rows, work.sft_rows + work.prompts, work.sft_rows + work.prompts + work.answers
    if ends[-1] > len(rows):
        raise SystemExit(f"{ends[-1]} advisories are needed, {ADVISORIES} has {len(rows)} that differ")
    data = folder / "data"
    write_jsonl(data / "sft.jsonl", ({"prompt": row["prompt"], "answer": row["answer"]} for row in rows[: ends[0]]))
    for name, start, end in (("prompts", ends[0], ends[1]), ("eval", ends[1], ends[2])):
        write_jsonl(data / f"{name}.jsonl", ({"prompt": row["prompt"], "gold": row["gold"]} for row in rows[start:end]))
    write_config(folder, _config(model, dtype, work))


def _advisories() -> list[dict[str, Any]]:
    """One advisory of every package, after the instruction."""
    rows: dict[str, dict[str, Any]] = {}
    for _, advisory in read_jsonl(ADVISORIES):
        text = " ".join(advisory["text"].split())[:500]
        rows.setdefault(
            advisory["package"],
            {
                "prompt": f"{INSTRUCTION}{advisory['package']}: {text}",
                "answer": f"severity: {advisory['severity']} | package: {advisory['package']}",
                "gold": {"severity": advisory["severity"], "package": advisory["package"]},
            },
        )
    return list(rows.values())


def _config(model: str, dtype: str, work: Work) -> str:
    return f"""\
# Written by `make bench-way`.
name: way
seed: {work.seed}

model:
  name: {json.dumps(model)}
  dtype: {dtype}

data:
  sft: data/sft.jsonl
  prompts: data/prompts.jsonl
  eval: data/eval.jsonl

decide: {{waive: the benchmark is about the way after it}}

lora: {{r: {LORA["r"]}, alpha: {LORA["alpha"]}, dropout: {LORA["dropout"]}, targets: {json.dumps(TARGETS)}}}

sft:
  epochs: {work.epochs}
  learning_rate: {work.sft_rate}
  batch_size: {work.batch_size}
  max_length: {work.max_length}

sample:
  temperatures: [{work.temperature}]
  per_temperature: {work.completions}
  max_new_tokens: {work.max_new_tokens}

judge:
  kind: rubric
  checks: &checks
    - {{name: format, kind: regex, pattern: 'severity: (critical|high|medium|low) \\| package: \\S+'}}
    - {{name: severity_match, kind: field, field: severity, weight: 2}}
    - {{name: package_match, kind: field, field: package}}

dpo:
  beta: {work.beta}
  epochs: 1
  learning_rate: {work.dpo_rate}
  batch_size: {work.batch_size}
  max_length: {work.max_length}

answers: {{max_new_tokens: {work.max_new_tokens}}}

eval: {{metrics: *checks}}

gate:
  criteria:
    - {{figure: missing, at_most: 0.02}}
"""
