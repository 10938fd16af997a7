"""The `eval` stage: metrics, scores and win rates of all arms on the same prompts, with error bars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairlead.config.evaluation import EvalSection
from fairlead.config.judges import JudgeSettings
from fairlead.config.stage_settings import EvalSettings
from fairlead.documents.evaluation import SHARED_JUDGE, Caveat, Draws, EvalResult, MetricRow, PairResult, Plan, Slices
from fairlead.documents.pairs import ReplyUsage
from fairlead.errors import DataError
from fairlead.evaluation.caveats import answer_figures, caveats_of, unknown_training
from fairlead.evaluation.human.anchoring import figures_of_people
from fairlead.evaluation.human.labels import Label, read_labels
from fairlead.evaluation.metrics import measure, scores_on, verdicts_on
from fairlead.evaluation.slices import labels_of, slices_of
from fairlead.evaluation.table import Values, metric_row, pair_result, rows_with_holm, width
from fairlead.files import write_jsonl
from fairlead.judges.base import Judge
from fairlead.judges.build import by_criterion, open_judge
from fairlead.judges.missing_verdicts import missing_share, reason_missing, refuse_if_missing
from fairlead.judges.panel import disagreement_of, usage_of
from fairlead.judges.qualification.model_families import shared_lineage
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import Comparison, Completion, ModelPair, Prompt, ScoreState, Verdict, VerdictState, to_json
from fairlead.statistics.power import plan, plan_line

JUDGE_SCORE = "judge_score"


@dataclass(frozen=True)
class _EvalSet:
    """Every arm's answers, and the prompt of each, in the same order; a prompt that was answered again comes again."""

    prompts: list[Prompt]
    answers: dict[str, list[Completion]]

    @property
    def clusters(self) -> list[str]:
        return [prompt.cluster or prompt.id for prompt in self.prompts]

    @property
    def first_draws(self) -> list[int]:
        """The number of the first answer to every prompt."""
        places: dict[str, int] = {}
        for number, prompt in enumerate(self.prompts):
            places.setdefault(prompt.id, number)
        return list(places.values())

    @property
    def texts(self) -> dict[str, list[str]]:
        return {model: [answer.text for answer in answers] for model, answers in self.answers.items()}


@dataclass
class _Judged:
    """What the judge said: a result for each pair, the verdicts behind them, scores, and how many of each state.

    Attributes:
        name: identity of the judge; None where none was asked.
        scores: by row of the table: the overall score, and that of each criterion.
        disagreement: share of a panel's judgements on which its members disagreed.
        usage: what the judge's replies took; None for one that asks no language model.
    """

    name: str | None = None
    pairwise: list[PairResult] = field(default_factory=list)
    verdicts: list[tuple[ModelPair, Verdict]] = field(default_factory=list)
    scores: dict[str, Values] = field(default_factory=dict)
    states: Counter[Any] = field(default_factory=Counter)
    score_states: dict[str, int] | None = None
    disagreement: float | None = None
    usage: ReplyUsage | None = None


def run(context: Context[EvalSettings]) -> Metrics:
    """Writes comparison.json (`EvalResult`), scores.jsonl and verdicts.jsonl (the rows behind it)."""
    section, settings = context.settings.eval, context.settings.eval_judge
    eval_set = _read(context)
    metrics: dict[str, Values] = measure(section.metrics, eval_set.prompts, eval_set.texts, context.folder)
    planned = plan([eval_set.clusters[number] for number in eval_set.first_draws])
    judged = _Judged()
    if settings is not None and section.asks_judge:
        context.progress.line(f"      {plan_line(planned)}")
        with open_judge(settings, context.folder) as judge:
            judged = _ask(section, eval_set, judge, context)
    metrics |= judged.scores
    shared = _shared_lineage(context.settings.judge, settings) if judged.name is not None else []
    of_models = [*shared, *unknown_training(context.settings.unknown_training)]
    for caveat in of_models:
        context.progress.line(f"      warning: {caveat.text}")
    pairs = list(map(ModelPair.parse, context.settings.judged_pairs))
    result = _result(eval_set, metrics, judged, planned, of_models, pairs)
    if section.slices is not None:
        result = result.model_copy(update={"slices": _slices(section.slices, eval_set, metrics, judged)})
    result.write(context.out / "comparison.json")
    write_jsonl(context.out / "scores.jsonl", _score_rows(eval_set, metrics))
    rows = [{"pair": str(pair), **to_json(verdict)} for pair, verdict in judged.verdicts]
    write_jsonl(context.out / "verdicts.jsonl", rows)
    asked = {} if judged.usage is None else {"asked": judged.usage.model_dump(mode="json")}
    return metrics_of(result, judged.states[VerdictState.FAILED]) | asked


def _slices(by: str, eval_set: _EvalSet, metrics: Mapping[str, Values], judged: _Judged) -> Slices:
    """DPO over what it was trained from, slice by slice."""
    pair = ModelPair("dpo", "sft" if "sft" in eval_set.answers else "base")
    verdicts = [verdict for of_pair, verdict in judged.verdicts if of_pair == pair] or None
    labels = labels_of(eval_set.prompts, by)
    if not any(labels):
        raise DataError(
            f"no eval prompt has {by}",
            where="eval.slices",
            remedy=f"give the rows of data.eval gold with the field {by}, or set eval.slices: cluster",
        )
    return slices_of(metrics, verdicts, labels, eval_set.clusters, pair, by=by, judged=list(judged.scores))


def metrics_of(result: EvalResult, unanswered: int) -> Metrics:
    """What status shows: the win rate of DPO over what it was trained from, where that was judged.

    Args:
        unanswered: judgements to which no reply came.
    """
    decisive = result.decisive
    return {
        "pair": None if decisive is None else decisive.pair.title,
        "win_rate": None if decisive is None else decisive.win_rate.value,
        "n": result.prompts if decisive is None else decisive.win_rate.n,
        "missing": result.missing,
        "unanswered": unanswered,
        "prompts": result.prompts,
        "warnings": [caveat.name for caveat in result.caveats],
    }


def _shared_lineage(training: JudgeSettings | None, evaluation: JudgeSettings | None) -> list[Caveat]:
    """A caveat where the judge of the comparison is also that of the pairs, or a relative of it."""
    common = shared_lineage(training, evaluation)
    return [] if common is None else [Caveat(name=SHARED_JUDGE, text=common.sentence)]


def _result(
    eval_set: _EvalSet,
    metrics: Mapping[str, Values],
    judged: _Judged,
    planned: Plan,
    shared: Sequence[Caveat],
    pairs: Sequence[ModelPair],
) -> EvalResult:
    """The comparison.

    Args:
        shared: caveats of the models and the judge.
        pairs: of arms; those that the rows hold by themselves are among them.
    """
    table = rows_with_holm(
        [
            metric_row(name, values, eval_set.clusters, judged=name in judged.scores, further=pairs)
            for name, values in metrics.items()
        ]
    )
    missing = missing_share(judged.states)
    answers = {
        model: answer_figures([a.text for a in completions], [a.finish == "length" for a in completions])
        for model, completions in eval_set.answers.items()
    }
    differences = [difference for row in table for difference in (row.difference, *row.further)]
    prompts = len(eval_set.first_draws)
    caveats = caveats_of(differences, judged.pairwise, answers, prompts=prompts, missing=missing)
    return EvalResult(
        table=tuple(table),
        pairwise=tuple(judged.pairwise),
        prompts=prompts,
        missing=missing,
        judge=judged.name,
        score_states=judged.score_states,
        flagged=sum(bool(verdict.flags) for _, verdict in judged.verdicts),
        panel_disagreement=judged.disagreement,
        plan=planned,
        answers=answers,
        caveats=(*caveats, *shared),
        draws=_draws(eval_set, metrics, table, judged),
    )


def _draws(
    eval_set: _EvalSet, metrics: Mapping[str, Values], table: Sequence[MetricRow], judged: _Judged
) -> Draws | None:
    """How much narrower several answers to a prompt made the intervals of DPO's differences; None with one answer."""
    first = eval_set.first_draws
    if len(first) == len(eval_set.prompts):
        return None
    clusters = [eval_set.clusters[number] for number in first]
    ratios = {}
    for row in table:
        values = {arm: [of_arm[n] for n in first] for arm, of_arm in metrics[row.metric].items()}
        alone = metric_row(row.metric, values, clusters, judged=row.metric in judged.scores)
        widths = [width(of.difference.delta) for of in (row, alone)]
        if widths[0] is not None and widths[1]:
            ratios[row.metric] = widths[0] / widths[1]
    return Draws(per_prompt=len(eval_set.prompts) // len(first), width_ratio=ratios)


def _read(context: Context[EvalSettings]) -> _EvalSet:
    answers = files.answers_of_arms(context.inputs)
    return _EvalSet(files.answered_prompts(context.read(files.EVAL_PROMPTS), answers), answers)


def _ask(section: EvalSection, eval_set: _EvalSet, judge: Judge, context: Context[EvalSettings]) -> _Judged:
    """Asks for every pair, then for scores, and stops where too much is missing."""
    judged = _Judged(judge.name)
    labels = [] if section.human is None else read_labels(context.folder / section.human)
    for pair in map(ModelPair.parse, context.settings.judged_pairs):
        texts = [eval_set.texts[model] for model in (pair.candidate, pair.reference)]
        verdicts = verdicts_on(judge, eval_set.prompts, *texts, what=pair.title, progress=context.progress)
        counts = Counter(verdict.state for verdict in verdicts)
        reason = reason_missing(verdicts)
        refuse_if_missing(counts, limit=section.max_missing, key="eval.max_missing", judge=judge.name, reason=reason)
        judged.states.update(counts)
        lengths = [list(map(len, answers)) for answers in texts]
        result = pair_result(pair, verdicts, eval_set.clusters, *lengths)
        judged.pairwise.append(_with_labels(result, labels, verdicts, eval_set))
        judged.verdicts += [(pair, verdict) for verdict in verdicts]
    score_states: Counter[ScoreState] = Counter()
    for row, asked in _scoring(section, judge):
        what = "scores" if row == JUDGE_SCORE else row
        values, scored = scores_on(asked, eval_set.prompts, eval_set.texts, what=what, progress=context.progress)
        refuse_if_missing(scored, limit=section.max_missing, key="eval.max_missing", judge=asked.name)
        judged.scores[row] = values
        score_states.update(scored)
    if judged.scores:
        judged.states.update(score_states)
        judged.score_states = {str(state): score_states[state] for state in ScoreState}
    judged.disagreement, judged.usage = disagreement_of(judge), usage_of(judge)
    return judged


def _with_labels(
    result: PairResult, labels: Sequence[Label], verdicts: Sequence[Verdict], eval_set: _EvalSet
) -> PairResult:
    """The result with what people say of the same answers."""
    of_pair = zip(*(eval_set.texts[model] for model in (result.pair.candidate, result.pair.reference)), strict=True)
    comparisons = [Comparison(p, a, b) for p, (a, b) in zip(eval_set.prompts, of_pair, strict=True)]
    human = figures_of_people(comparisons, verdicts, labels, eval_set.clusters)
    return result.model_copy(update={"human": human})


def _scoring(section: EvalSection, judge: Judge) -> Iterator[tuple[str, Judge]]:
    """The rows of the table that are scores, each with the judge who is asked for them."""
    if section.scores:
        yield JUDGE_SCORE, judge
    for criterion in section.criteria:
        yield criterion.name, by_criterion(judge, criterion)


def _score_rows(eval_set: _EvalSet, metrics: Mapping[str, Values]) -> list[dict[str, Any]]:
    return [
        {
            "prompt_id": prompt.id,
            "model": model,
            "values": {name: values[model][number] for name, values in metrics.items()},
        }
        for model in eval_set.answers
        for number, prompt in enumerate(eval_set.prompts)
    ]
