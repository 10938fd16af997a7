"""The `pairs` stage: preference triples from verdicts or from an import, split into train and validation."""

from __future__ import annotations

from fairlead.config.data import DataSection
from fairlead.config.sampling import PairsSection
from fairlead.data.check import without_faults
from fairlead.data.splits import split_by_prompt
from fairlead.errors import DataError
from fairlead.files import write_jsonl
from fairlead.pipeline import datasets
from fairlead.pipeline.stage import Context, Figures
from fairlead.preferences.pairing import preferences_from
from fairlead.records import Preference, Sampled, to_json


def run(context: Context) -> Figures:
    """Writes train.jsonl and validation.jsonl; near-duplicate prompts are on one side.

    Raises:
        DataError: if no pair is left to train on.
    """
    section: PairsSection = context.section("pairs")
    data: DataSection = context.section("data")
    prepared = context.inputs["prepare"]
    counts: dict[str, int] = {}
    pairs: list[Preference]
    if "judge" in context.inputs:
        pairs, counted = preferences_from(
            datasets.prompts(prepared.file("prompts.jsonl")),
            datasets.completions(context.inputs["sample"].file("completions.jsonl")),
            datasets.verdicts(context.inputs["judge"].file("verdicts.jsonl")),
            recipe=section.recipe,
            margin=section.margin,
        )
        counts = dict(sorted(counted.items()))
    else:
        pairs = datasets.preferences(prepared.file("preferences.jsonl"))
    dropped: dict[str, int] = {}
    if drop := context.section("data_check.drop"):
        held = datasets.prompts(prepared.file("eval.jsonl"))
        pairs, dropped = without_faults(pairs, drop, similarity=data.similarity, eval_prompts=held)
    if len(pairs) < 2:
        found = {**counts, **{f"dropped as {name}": count for name, count in dropped.items()}}
        shown = ", ".join(f"{count} {reason}" for reason, count in found.items()) or "none was imported"
        raise DataError(
            f"{len(pairs)} preference pairs came out ({shown}), too few to train on and to watch",
            where="pairs",
            remedy="give more prompts, wider temperatures (sample.temperatures), or a smaller pairs.margin",
        )
    train, validation = split_by_prompt(
        [pair.prompt for pair in pairs], section.validation, seed=context.seed, threshold=data.similarity
    )
    write_jsonl(context.out / "train.jsonl", (to_json(pairs[i]) for i in train))
    write_jsonl(context.out / "validation.jsonl", (to_json(pairs[i]) for i in validation))
    longer = [len(p.chosen) > len(p.rejected) for p in pairs if len(p.chosen) != len(p.rejected)]
    return {
        "train": len(train),
        "validation": len(validation),
        "counts": counts,
        "dropped": dropped,
        "flagged": sum(isinstance(p.provenance, Sampled) and bool(p.provenance.flags) for p in pairs),
        "chosen_is_longer": sum(longer) / len(longer) if longer else None,
    }
