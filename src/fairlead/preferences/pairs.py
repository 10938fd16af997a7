"""The `pairs` stage: preference triples from verdicts or from an import, split into train and validation."""

from __future__ import annotations

from fairlead.config.stage_settings import PairsSettings
from fairlead.data.check import without_faults
from fairlead.data.splits import split_by_prompt
from fairlead.errors import DataError
from fairlead.files import write_json, write_jsonl
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.preferences.pairing import preferences_from
from fairlead.records import Preference, Sampled, to_json


def run(context: Context[PairsSettings]) -> Metrics:
    """Writes train.jsonl and validation.jsonl; near-duplicate prompts are on one side.

    Raises:
        DataError: if no pair is left to train on.
    """
    section, similarity = context.settings.pairs, context.settings.similarity
    counts: dict[str, int] = {}
    pairs: list[Preference]
    if files.VERDICTS in context.inputs.declared:
        pairs, counted = preferences_from(
            context.read(files.TASK_PROMPTS),
            context.read(files.COMPLETIONS),
            context.read(files.VERDICTS),
            recipe=section.recipe,
            margin=section.margin,
        )
        counts = dict(sorted(counted.items()))
    else:
        pairs = context.read(files.READY_PAIRS)
    dropped: dict[str, int] = {}
    if drop := context.settings.drop:
        held = context.read(files.EVAL_PROMPTS)
        pairs, dropped = without_faults(pairs, drop, similarity=similarity, eval_prompts=held)
    if len(pairs) < 2:
        found = {**counts, **{f"dropped as {name}": count for name, count in dropped.items()}}
        shown = ", ".join(f"{count} {reason}" for reason, count in found.items()) or "none was imported"
        raise DataError(
            f"{len(pairs)} preference pairs came out ({shown}), too few to train on and to watch",
            where="pairs",
            remedy="give more prompts, wider temperatures (sample.temperatures), or a smaller pairs.margin",
        )
    train, validation = split_by_prompt(
        [pair.prompt for pair in pairs], section.validation, seed=context.seed, threshold=similarity
    )
    write_jsonl(context.out / "train.jsonl", (to_json(pairs[i]) for i in train))
    write_jsonl(context.out / "validation.jsonl", (to_json(pairs[i]) for i in validation))
    longer = [len(p.chosen) > len(p.rejected) for p in pairs if len(p.chosen) != len(p.rejected)]
    metrics: Metrics = {
        "train": len(train),
        "validation": len(validation),
        "counts": counts,
        "dropped": dropped,
        "flagged": sum(isinstance(p.provenance, Sampled) and bool(p.provenance.flags) for p in pairs),
        "chosen_is_longer": sum(longer) / len(longer) if longer else None,
    }
    write_json(context.out / "counts.json", metrics)
    return metrics
