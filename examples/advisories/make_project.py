"""Makes `examples/advisories/project` from the real security advisories beside the checkout.

Advisories in, one line out: `severity: … | package: …`. The base model is trained from scratch on the texts of the
train split. The split is by content: near-duplicate advisories, and all advisories of one package, are on one side.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fairlead.config.reference.editor import write_config
from fairlead.data.splits import split_by_prompt
from fairlead.demo.base_model import train_base
from fairlead.errors import DataError, FairleadError
from fairlead.files import read_jsonl, write_jsonl
from fairlead.records import Prompt

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[2] / "shared" / "data" / "advisories.jsonl"
CHARACTERS = 360  # of an advisory's text; the small base model has a context of 512 tokens
SEED = 0
BASE_STEPS = 260


def main() -> None:
    if not SOURCE.is_file():
        raise DataError(
            "the advisories are not here", where=str(SOURCE), remedy="put the real data beside the checkout"
        )
    project = HERE / "project"
    rows = [row for _, row in read_jsonl(SOURCE)]
    prompts = [
        Prompt.of(
            f"package {row['package']}: {' '.join(row['text'].split())[:CHARACTERS]}",
            gold={"severity": row["severity"], "package": row["package"]},
            cluster=row["package"],
        )
        for row in rows
    ]
    train, held_out = split_by_prompt(prompts, 0.2, seed=SEED, threshold=0.8)

    def task(numbers: list[int]) -> list[dict[str, object]]:
        return [
            {"prompt": prompts[i].text, "gold": dict(prompts[i].gold), "cluster": prompts[i].cluster} for i in numbers
        ]

    def answer(i: int) -> str:
        return f"severity: {rows[i]['severity']} | package: {rows[i]['package']}"

    data = project / "data"
    write_jsonl(data / "eval.jsonl", task(held_out))
    write_jsonl(data / "prompts.jsonl", task(train))
    write_jsonl(data / "sft.jsonl", ({"prompt": prompts[i].text, "answer": answer(i)} for i in train))
    write_jsonl(
        data / "corpus.jsonl",
        ({"prompt": f"advisory for {rows[i]['package']}", "answer": prompts[i].text} for i in train),
    )
    write_config(project, (HERE / "fairlead.yaml").read_text(encoding="utf-8"))
    print(f"{len(train)} advisories to train on, {len(held_out)} held out; training the base model", flush=True)
    train_base(
        data / "corpus.jsonl",
        project / "base-model",
        seed=SEED,
        steps=BASE_STEPS,
        progress=lambda done, total: print(f"base model {done}/{total}", flush=True) if done % 50 == 0 else None,
    )


if __name__ == "__main__":
    try:
        main()
    except FairleadError as error:
        sys.exit(f"advisories: {error}")
