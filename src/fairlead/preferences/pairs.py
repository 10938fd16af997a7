"""The `pairs` stage: preference triples from verdicts or from an import, split into train and validation."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.config.stage_settings import PairsSettings
from fairlead.data.check import without_faults
from fairlead.data.splits import split_by_prompt
from fairlead.documents.pairs import PairCounts, PairOutcome
from fairlead.files import write_jsonl
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.preferences.pairing import preferences_from
from fairlead.preferences.too_few_pairs import too_few_pairs
from fairlead.records import Preference, Sampled, to_json


def run(context: Context[PairsSettings]) -> Metrics:
    """Writes train.jsonl and validation.jsonl; near-duplicate prompts are on one side.

    Raises:
        DataError: if no pair is left to train on.
    """
    section, similarity = context.settings.pairs, context.settings.similarity
    counts: Mapping[PairOutcome, int] = {}
    pairs: list[Preference]
    if files.VERDICTS in context.inputs.declared:
        pairs, counts = preferences_from(
            context.read(files.TASK_PROMPTS),
            context.read(files.COMPLETIONS),
            context.read(files.VERDICTS),
            recipe=section.recipe,
            margin=section.margin,
        )
    else:
        pairs = context.read(files.READY_PAIRS)
    dropped: dict[str, int] = {}
    if drop := context.settings.drop:
        eval_rows = context.read(files.EVAL_PROMPTS)
        pairs, dropped = without_faults(pairs, drop, similarity=similarity, eval_prompts=eval_rows)
    if len(pairs) < 2:
        raise too_few_pairs(len(pairs), counts, dropped)
    train, validation = split_by_prompt(
        [pair.prompt for pair in pairs], section.validation, seed=context.seed, threshold=similarity
    )
    write_jsonl(context.out / "train.jsonl", (to_json(pairs[i]) for i in train))
    write_jsonl(context.out / "validation.jsonl", (to_json(pairs[i]) for i in validation))
    longer = [len(p.chosen) > len(p.rejected) for p in pairs if len(p.chosen) != len(p.rejected)]
    made = PairCounts(
        train=len(train),
        validation=len(validation),
        counts=dict(sorted(counts.items())),
        dropped=dropped,
        flagged=sum(isinstance(p.provenance, Sampled) and bool(p.provenance.flags) for p in pairs),
        chosen_is_longer=sum(longer) / len(longer) if longer else None,
    )
    made.write(context.out / "counts.json")
    return made.model_dump(mode="json")
