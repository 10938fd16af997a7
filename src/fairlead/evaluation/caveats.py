"""Reasons to doubt a comparison, each with a name. Pure functions on texts and results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fairlead.documents.evaluation import (
    UNKNOWN_TRAINING,
    AnswerFigures,
    Caveat,
    Conclusion,
    MetricDifference,
    MostCommon,
    PairResult,
)
from fairlead.escape import shorten
from fairlead.records import Interval, VerdictState
from fairlead.text.repetition import ends_in_loop

_FEW_PROMPTS = 50
_MANY_MISSING = 0.02
_MANY_INCONSISTENT = 0.2
_MANY_CUT = 0.05
_MANY_LOOPS = 0.02
_SAME_ANSWER, _SAME_ANSWER_TIMES = 0.1, 3
_LONGER = 1.1  # mean length of the candidate's answers over the reference's from which they count as grown
_LENGTH_MOVES = 0.02  # fall of the win rate at equal length that is worth a caveat


def answer_figures(texts: Sequence[str], cut: Sequence[bool] | None = None) -> AnswerFigures:
    """What one model's answers are like.

    Args:
        cut: of each text, whether the token limit ended it; None where it is unknown.
    """
    n = len(texts)
    text, times = Counter(t.strip() for t in texts).most_common(1)[0] if n else ("", 0)
    return AnswerFigures(
        n=n,
        mean_characters=sum(map(len, texts)) / n if n else None,
        cut=sum(cut) / n if n and cut is not None else None,
        loops=sum(map(ends_in_loop, texts)) / n if n else None,
        most_common=MostCommon(text=text[:200], times=times),
    )


def caveats_of(
    differences: Sequence[MetricDifference],
    pairwise: Sequence[PairResult],
    answers: Mapping[str, AnswerFigures],
    *,
    prompts: int,
    missing: float,
) -> list[Caveat]:
    """Every caveat; an empty list if there is none.

    Args:
        differences: the table's, with `p_holm`.
        answers: by model.
        missing: share of all judgements that are missing.
    """
    caveats = []
    if prompts < _FEW_PROMPTS:
        text = f"{prompts} prompts can show little; {_FEW_PROMPTS} are a sensible minimum"
        caveats.append(Caveat(name="few_prompts", text=text))
    if missing > _MANY_MISSING:
        text = f"{missing:.1%} of the judgements are missing: see worst and best"
        caveats.append(Caveat(name="missing_verdicts", text=text))
    for result in pairwise:
        caveats += _pair_caveats(result, answers)
    caveats += _opposed(differences, pairwise)
    caveats += _uncorrected(differences)
    for model, figures in answers.items():
        caveats += answer_caveats(model, figures)
    return caveats


def unknown_training(models: Sequence[str]) -> list[Caveat]:
    """A caveat for each model made elsewhere whose training rows are not known, so that leaks cannot be looked for."""
    rows = {"sft": "data.sft", "dpo": "data.preferences"}
    return [
        Caveat(
            name=UNKNOWN_TRAINING,
            text=f"{model} was made elsewhere and learnt rows that are not known here: eval prompts may be among them, "
            f"and no count of leaks includes them; give them as {rows[model]} and they are looked for",
        )
        for model in models
    ]


def _pair_caveats(result: PairResult, answers: Mapping[str, AnswerFigures]) -> list[Caveat]:
    caveats = []
    pair, states = result.pair, result.states
    inconsistent = states[VerdictState.INCONSISTENT]
    judged = inconsistent + sum(states[state] for state in (VerdictState.WIN, VerdictState.LOSS, VerdictState.TIE))
    if judged and inconsistent > _MANY_INCONSISTENT * judged:
        text = f"{inconsistent / judged:.0%} of the verdicts change with the order in which answers stand"
        caveats.append(Caveat(name="order", text=f"{pair.title}: {text}"))
    new, old = (
        answers[model].mean_characters if model in answers else None for model in (pair.candidate, pair.reference)
    )
    caveats += _human_caveats(result)
    length = length_doubt(result.win_rate.value, result.length_adjusted, new, old)
    return caveats + ([Caveat(name="length", text=f"{pair.title}: {length}")] if length else [])


def _human_caveats(result: PairResult) -> list[Caveat]:
    """Where people and judge contradict each other, and where the labels are too few to say."""
    human, pair = result.human, result.pair
    if human is None:
        return []
    anchored, judged = human.anchored, human.judge.value
    if anchored.low is None or anchored.high is None:
        text = f"{human.labels} labels of people are too few to correct the judge ({anchored.method})"
        return [Caveat(name="labels", text=f"{pair.title}: {text}")]
    if judged is None or anchored.low <= judged <= anchored.high:
        return []
    corrected = f"{anchored.value:.1%} [{anchored.low:.3f}, {anchored.high:.3f}]"
    text = f"the judge says {judged:.1%}; corrected by {human.labels} labels of people it is {corrected}"
    return [Caveat(name="people", text=f"{pair.title}: {text}")]


def length_doubt(rate: float | None, adjusted: Interval | None, new: float | None, old: float | None) -> str | None:
    """Why a win rate above 50 % may come from the length of the answers.

    Args:
        adjusted: the win rate at equal length.
        new, old: mean characters of the candidate's and of the reference's answers.
    """
    if new is None or not old or new <= _LONGER * old or rate is None or adjusted is None:
        return None
    grown = f"answers grew from {old:.0f} to {new:.0f} characters"
    if adjusted.value is None:
        why = adjusted.method.removeprefix("undefined: ")
        return f"{grown}, and a win rate of {rate:.1%} cannot be told from length ({why})" if rate > 0.5 else None
    if adjusted.value >= rate - _LENGTH_MOVES:
        return None
    return f"{grown}, and at equal length the win rate is {adjusted.value:.1%} instead of {rate:.1%}"


def _opposed(differences: Sequence[MetricDifference], pairwise: Sequence[PairResult]) -> list[Caveat]:
    """Metrics that credibly move against the judge's verdict on the same two models."""
    opposites = {Conclusion.BETTER: Conclusion.WORSE, Conclusion.WORSE: Conclusion.BETTER}
    caveats = []
    for result in pairwise:
        opposite = opposites.get(result.conclusion)
        against = [d.metric for d in differences if d.conclusion is opposite and d.pair == result.pair]
        if len(against) > 1:
            text = f"the judge says {result.conclusion}, and {', '.join(against)} are {opposite}"
            caveats.append(Caveat(name="opposed_metrics", text=f"{result.pair.title}: {text}"))
    return caveats


def _uncorrected(differences: Sequence[MetricDifference]) -> list[Caveat]:
    """Metrics whose difference would not stand after correcting for how many were looked at."""
    several = len({d.pair for d in differences}) > 1
    doubtful = [
        d.metric + (f" ({d.pair.title})" if several else "")
        for d in differences
        if d.conclusion in (Conclusion.BETTER, Conclusion.WORSE) and d.p_holm is not None and d.p_holm > 0.05
    ]
    if not doubtful:
        return []
    text = f"{', '.join(doubtful)}: different alone, not after Holm's correction over {len(differences)} differences"
    return [Caveat(name="multiple_metrics", text=text)]


def answer_caveats(model: str, figures: AnswerFigures) -> list[Caveat]:
    """Reasons to doubt the answers of one model by themselves: cut, looping, or one and the same."""
    n = figures.n
    caveats = []
    if figures.cut is not None and figures.cut > _MANY_CUT:
        caveats.append(Caveat(name="cut", text=f"{model}: {figures.cut:.0%} of the answers are cut by the token limit"))
    if figures.loops is not None and figures.loops > _MANY_LOOPS:
        text = f"{model}: {figures.loops:.0%} of the answers repeat themselves without end"
        caveats.append(Caveat(name="loops", text=text))
    times = figures.most_common.times
    if times >= _SAME_ANSWER_TIMES and times > _SAME_ANSWER * n:
        beginning = shorten(figures.most_common.text, 60)
        text = f"{model}: one answer is given to {times} of {n} prompts: “{beginning}”"
        caveats.append(Caveat(name="repeated_answer", text=text))
    return caveats
