"""The `judge` stage: a verdict on every pair of distinct completions of a prompt that the recipe compares."""

from __future__ import annotations

from collections import Counter

from fairlead.config.stage_settings import JudgeStageSettings
from fairlead.documents.pairs import JudgeCounts
from fairlead.files import write_jsonl
from fairlead.judges.build import open_judge
from fairlead.judges.from_scores import compare_by_scores
from fairlead.judges.missing_verdicts import reason_missing, refuse_if_missing
from fairlead.judges.panel import disagreement_of, usage_of
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.preferences.pairing import comparisons_for
from fairlead.records import VerdictState, to_json


def run(context: Context[JudgeStageSettings]) -> Metrics:
    """Writes comparisons.jsonl and verdicts.jsonl.

    Raises:
        JudgeError: if more verdicts are missing than `pairs.max_missing` allows; the rerun asks only for those.
    """
    prompts = context.read(files.TASK_PROMPTS)
    completions = context.read(files.COMPLETIONS)
    comparisons, alike = comparisons_for(prompts, completions, context.settings.recipe)
    by_scores = context.settings.judged_by == "scores"
    verdicts = []
    with (
        open_judge(context.settings.judge, context.folder) as judge,
        context.progress.task("judge", "verdicts", len(comparisons)) as bar,
    ):
        for verdict in compare_by_scores(judge, comparisons) if by_scores else judge.compare(comparisons):
            verdicts.append(verdict)
            bar.update(len(verdicts))
        name, disagreement, usage = judge.name, disagreement_of(judge), usage_of(judge)
    counts = Counter(verdict.state for verdict in verdicts)
    limit, reason = context.settings.max_missing, reason_missing(verdicts)
    refuse_if_missing(counts, limit=limit, key="pairs.max_missing", judge=name, reason=reason)
    write_jsonl(context.out / "comparisons.jsonl", map(to_json, comparisons))
    write_jsonl(context.out / "verdicts.jsonl", map(to_json, verdicts))
    judged = JudgeCounts(
        verdicts=len(verdicts),
        states={state: counts[state] for state in VerdictState},
        unanswered=counts[VerdictState.FAILED],
        flagged=sum(bool(verdict.flags) for verdict in verdicts),
        panel_disagreement=disagreement,
        identical_completions=alike,
        judge=name,
    )
    judged.write(context.out / "counts.json")
    return judged.model_dump(mode="json") | ({} if usage is None else {"asked": usage.model_dump(mode="json")})
