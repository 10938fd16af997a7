"""The `eval` stage: metrics, scores and win rates of base, SFT and DPO on the same prompts, with error bars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fairlead.config.evaluation import EvalSection
from fairlead.config.stage_settings import EvalSettings
from fairlead.documents.evaluation import Plan
from fairlead.evaluation.caveats import answer_figures, warnings_of
from fairlead.evaluation.metrics import measure, scores_on, verdicts_on
from fairlead.evaluation.table import Values, pairwise_figures, table_row, with_holm
from fairlead.files import write_json, write_jsonl
from fairlead.judges.base import Judge
from fairlead.judges.build import open_judge
from fairlead.judges.missing_verdicts import missing_share, refuse_if_missing
from fairlead.judges.panel import disagreement_of
from fairlead.judges.qualification.model_families import SHARED_JUDGE, shared_lineage
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import Completion, ModelPair, Prompt, ScoreState, VerdictState, to_json
from fairlead.statistics.power import plan, plan_line

JUDGE_SCORE = "judge_score"


@dataclass(frozen=True)
class _Held:
    """The held-out prompts and every view's answers to them, in the same order."""

    prompts: list[Prompt]
    answers: dict[str, list[Completion]]

    @property
    def clusters(self) -> list[str]:
        return [prompt.cluster or prompt.id for prompt in self.prompts]

    @property
    def texts(self) -> dict[str, list[str]]:
        return {view: [answer.text for answer in answers] for view, answers in self.answers.items()}


@dataclass
class _Judged:
    """What the judge said: figures by pair, the verdicts behind them, scores, and how many of each state.

    Attributes:
        disagreement: share of a panel's judgements on which its members disagreed.
    """

    name: str | None = None
    pairwise: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    scores: Values | None = None
    states: Counter[Any] = field(default_factory=Counter)
    score_states: dict[str, int] | None = None
    disagreement: float | None = None


def run(context: Context[EvalSettings]) -> Metrics:
    """Writes comparison.json (table, pairwise, warnings), scores.jsonl and verdicts.jsonl (the rows behind them)."""
    section = context.settings.eval
    settings = context.settings.eval_judge
    held = _read(context)
    metrics: dict[str, Values] = measure(section.metrics, held.prompts, held.texts, context.folder)
    planned = plan(held.clusters)
    judged = _Judged()
    if settings is not None and (section.pairwise or section.scores):
        context.progress.line(f"      {plan_line(planned)}")
        with open_judge(settings, context.folder) as judge:
            judged = _ask(section, held, judge, context)
    if judged.scores is not None:
        metrics[JUDGE_SCORE] = judged.scores
    comparison = _comparison(held, metrics, judged, planned)
    training = context.settings.judge
    if judged.name is not None and (common := shared_lineage(training, settings)) is not None:
        comparison["warnings"].append({"name": SHARED_JUDGE, "text": common.sentence})
        context.progress.line(f"      warning: {common.sentence}")
    write_json(context.out / "comparison.json", comparison)
    write_jsonl(context.out / "scores.jsonl", _score_rows(held, metrics))
    write_jsonl(context.out / "verdicts.jsonl", judged.rows)
    first = next(iter(judged.pairwise.values()), {})
    return {
        "win_rate": first.get("win_rate"),
        "missing": comparison["missing"],
        "unanswered": judged.states[VerdictState.FAILED],
        "prompts": len(held.prompts),
        "warnings": [warning["name"] for warning in comparison["warnings"]],
    }


def _comparison(held: _Held, metrics: Mapping[str, Values], judged: _Judged, planned: Plan) -> dict[str, Any]:
    table = with_holm(
        [table_row(name, values, held.clusters, judged=name == JUDGE_SCORE) for name, values in metrics.items()]
    )
    missing = missing_share(judged.states)
    answers = {
        view: answer_figures([c.text for c in found], [c.finish == "length" for c in found])
        for view, found in held.answers.items()
    }
    return {
        "table": table,
        "pairwise": judged.pairwise,
        "prompts": len(held.prompts),
        "missing": missing,
        "judge": judged.name,
        "score_states": judged.score_states,
        "flagged": sum(bool(row["flags"]) for row in judged.rows),
        "panel_disagreement": judged.disagreement,
        "plan": planned.model_dump(),
        "answers": answers,
        "warnings": warnings_of(table, judged.pairwise, answers, prompts=len(held.prompts), missing=missing),
    }


def _read(context: Context[EvalSettings]) -> _Held:
    prompts = context.read(files.EVAL_PROMPTS)
    answers: dict[str, list[Completion]] = {}
    for answer in context.read(files.ANSWERS):
        answers.setdefault(answer.model, []).append(answer)
    return _Held(prompts, answers)


def _ask(section: EvalSection, held: _Held, judge: Judge, context: Context[EvalSettings]) -> _Judged:
    """Asks for every pair, then for scores, and stops where too much is missing."""
    judged = _Judged(judge.name)
    for pair in map(ModelPair.parse, section.pairwise):
        texts = [held.texts[model] for model in (pair.candidate, pair.reference)]
        verdicts = verdicts_on(judge, held.prompts, *texts, what=pair.title, progress=context.progress)
        counts = Counter(verdict.state for verdict in verdicts)
        refuse_if_missing(counts, limit=section.max_missing, key="eval.max_missing", judge=judge.name)
        judged.states.update(counts)
        lengths = [list(map(len, answers)) for answers in texts]
        judged.pairwise[str(pair)] = pairwise_figures(verdicts, held.clusters, *lengths)
        judged.rows += [{"pair": str(pair), **to_json(verdict)} for verdict in verdicts]
    if section.scores:
        judged.scores, scored = scores_on(judge, held.prompts, held.texts, progress=context.progress)
        refuse_if_missing(scored, limit=section.max_missing, key="eval.max_missing", judge=judge.name)
        judged.states.update(scored)
        judged.score_states = {str(state): scored.get(state, 0) for state in ScoreState}
    judged.disagreement = disagreement_of(judge)
    return judged


def _score_rows(held: _Held, metrics: Mapping[str, Values]) -> list[dict[str, Any]]:
    return [
        {
            "prompt_id": prompt.id,
            "model": view,
            "values": {name: values[view][number] for name, values in metrics.items()},
        }
        for view in held.answers
        for number, prompt in enumerate(held.prompts)
    ]
