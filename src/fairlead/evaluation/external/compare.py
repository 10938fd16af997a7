"""`fairlead eval import`: answers that any system made, judged and measured like those of a project's own models.

Prompts are matched by their text. Every pair of models is compared on the prompts that both have answered, so that
models behind an API can stand beside base, SFT and DPO.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from fairlead.config.checks import CheckSettings
from fairlead.config.judges import JudgeSettings
from fairlead.config.values.arms import MODELS
from fairlead.data.reading.readers import read_prompts
from fairlead.documents.evaluation import MetricDifference, Plan
from fairlead.documents.imported import ImportedComparison, ImportedRow
from fairlead.documents.report import PairFigures
from fairlead.errors import DataError, some
from fairlead.evaluation.caveats import answer_figures, caveats_of
from fairlead.evaluation.external.answers import ExternalAnswer, check_format, read_answers
from fairlead.evaluation.metrics import measure, verdicts_on
from fairlead.evaluation.table import metric_difference, pair_result, with_holm
from fairlead.files import write_jsonl
from fairlead.judges.base import Judge
from fairlead.judges.build import open_judge
from fairlead.judges.missing_verdicts import missing_share, reason_missing, refuse_if_missing
from fairlead.pipeline import datasets
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import resolve
from fairlead.progress import Progress
from fairlead.records import Comparison, Interval, ModelPair, Prompt, Verdict, VerdictState, to_json
from fairlead.statistics.bradley_terry import bradley_terry
from fairlead.statistics.power import plan, plan_line

Verdicts = dict[ModelPair, list[Verdict]]
Answers = dict[str, dict[str, str | None]]  # by model, the answer to each prompt; None where it gave none


@dataclass(frozen=True)
class Comparing:
    """What answers are compared by.

    Attributes:
        judge: None compares by metrics alone.
        folder: from which files are found, and where the ledger lies.
        max_missing: share of judgements that may be missing.
    """

    judge: JudgeSettings | None
    metrics: Sequence[CheckSettings]
    folder: Path
    max_missing: float
    progress: Progress

    @classmethod
    def of_project(cls, project: Project) -> Comparing:
        section = project.config.eval
        return cls(project.config.eval_judge, section.metrics, project.folder, section.max_missing, project.progress)


def compare_answers(
    prompts: Mapping[str, Prompt], answers: Answers, by: Comparing, *, cut: Mapping[str, Sequence[bool]] | None = None
) -> tuple[ImportedComparison, Verdicts]:
    """Every pair of models on the prompts that both have answered.

    Args:
        prompts: by the key that `answers` knows them by.
        cut: of each answer whether the token limit ended it, by model, where that is known.

    Raises:
        DataError: if two models have answered no prompt in common.
        JudgeError: if too many judgements are missing.
    """
    common = _common(prompts, answers)
    planned = {str(pair): plan(_clusters(prompts, keys)) for pair, keys in common.items()}
    judge, verdicts = _judge(by, prompts, answers, common, planned.values())
    return _compare(by, prompts, answers, cut or {}, common, planned, judge, verdicts), verdicts


def import_answers(
    project: Project, files: Sequence[Path], *, form: str, to: Path, own: bool = False, name: str | None = None
) -> ImportedComparison:
    """Reads the files' answers, judges every pair of models with the project's judge, and writes what it says to `to`.

    Args:
        form: alpaca_eval or jsonl, see `answers.read_answers`.
        to: folder for comparison.json and verdicts.jsonl.
        own: the project's own base, SFT and DPO answers stand beside the imported ones.
        name: of the model, where the files name none or only one.

    Raises:
        DataError: if there are fewer than two models, two that share no prompt, or one named as the project's own.
    """
    check_format(form)
    prompts, answers = _collect([a for file in files for a in read_answers(file, form)], name)
    known = {_asked(prompt): prompt for prompt in read_prompts(resolve(project.folder, project.config.data.eval))}
    prompts = {key: known.get(_asked(prompt), prompt) for key, prompt in prompts.items()}
    cut = _add_own(project, prompts, answers) if own else {}
    if len(answers) < 2:
        raise DataError(
            f"holds the answers of one model ({some(answers)}), two are needed",
            where=some(files),
            remedy="give a second file, or --own to compare it with the project's own models",
        )
    comparison, verdicts = compare_answers(prompts, answers, Comparing.of_project(project), cut=cut)
    comparison.write(to / "comparison.json")
    rows = [{"pair": str(pair), **to_json(v)} for pair, of_pair in verdicts.items() for v in of_pair]
    write_jsonl(to / "verdicts.jsonl", rows)
    return comparison


def _collect(rows: Sequence[ExternalAnswer], name: str | None) -> tuple[dict[str, Prompt], Answers]:
    """Prompts and answers by what was asked. An answer that is given twice counts once."""
    prompts: dict[str, Prompt] = {}
    answers: Answers = {}
    named = {answer.model for answer in rows if answer.model}
    for answer in rows:
        model = name if name and len(named) < 2 else answer.model or name
        if not model:
            raise DataError("names no model", where=answer.where, remedy="say which one it is: --name MODEL")
        key = _asked(answer.prompt)
        prompts.setdefault(key, answer.prompt)
        mine = answers.setdefault(model, {})
        if mine.setdefault(key, answer.text) != answer.text:
            raise DataError(f"a second answer of {model} to one prompt", where=answer.where, remedy="keep one of them")
    return prompts, answers


def _asked(prompt: Prompt) -> str:
    """What a prompt is matched by: its turns without the system instruction, which other systems may not have."""
    return "\n\n".join(f"{m.role}: {m.content.strip()}" for m in prompt.messages if m.role != "system")


def _add_own(project: Project, prompts: dict[str, Prompt], answers: Answers) -> dict[str, list[bool]]:
    """Adds the project's own answers, and returns which of them the token limit cut, by model."""
    taken = [model for model in answers if model in (*MODELS, *project.config.arm_names)]
    if taken:
        raise DataError(
            f"the name {taken[0]} is taken by the project's own model",
            where="fairlead eval import --own",
            remedy="give the other system another one: --name NAME",
        )
    eval_set = datasets.prompts(project.artifact("prepare").file("eval.jsonl"))
    keys = {prompt.id: _asked(prompt) for prompt in eval_set}
    prompts.update({keys[prompt.id]: prompt for prompt in eval_set})
    cut: dict[str, list[bool]] = {}
    for arm, completions in project.answers().items():
        first = [answer for answer in completions if answer.index == 0]
        answers[arm] = {keys[answer.prompt_id]: answer.text for answer in first}
        cut[arm] = [answer.finish == "length" for answer in first]
    return cut


def _common(prompts: Mapping[str, Prompt], answers: Answers) -> dict[ModelPair, list[str]]:
    """The prompts that both models of each pair were asked."""
    common = {
        ModelPair(first, second): [key for key in prompts if key in answers[first] and key in answers[second]]
        for first, second in combinations(answers, 2)
    }
    for pair, keys in common.items():
        first, second = answers[pair.candidate], answers[pair.reference]
        if not any(first[key] is not None and second[key] is not None for key in keys):
            raise DataError(
                f"{pair.candidate} and {pair.reference} have answered no prompt in common",
                remedy="their texts must be equal",
            )
    return common


def _judge(
    by: Comparing,
    prompts: Mapping[str, Prompt],
    answers: Answers,
    common: Mapping[ModelPair, Sequence[str]],
    planned: Iterable[Plan],
) -> tuple[str | None, Verdicts]:
    """The judge's identity and its verdicts on every pair; none where there is no judge."""
    settings = by.judge
    if settings is None:
        return None, {}
    for of_pair in planned:
        by.progress.line(f"      {plan_line(of_pair)}")
    with open_judge(settings, by.folder) as judge:
        return judge.name, {p: _verdicts(judge, by, prompts, answers, p, keys) for p, keys in common.items()}


def _verdicts(
    judge: Judge,
    by: Comparing,
    prompts: Mapping[str, Prompt],
    answers: Answers,
    pair: ModelPair,
    keys: Sequence[str],
) -> list[Verdict]:
    """A verdict for every prompt; a failed one where a model gave no answer, which is not the judge's fault."""
    texts = {key: (answers[pair.candidate][key], answers[pair.reference][key]) for key in keys}
    both = {key: (first, second) for key, (first, second) in texts.items() if first is not None and second is not None}
    first, second = ([of_prompt[side] for of_prompt in both.values()] for side in (0, 1))
    asked = [prompts[key] for key in both]
    verdicts = verdicts_on(judge, asked, first, second, what=pair.title, progress=by.progress)
    counts = Counter(verdict.state for verdict in verdicts)
    limit, reason = by.max_missing, reason_missing(verdicts)
    refuse_if_missing(counts, limit=limit, key="eval.max_missing", judge=judge.name, reason=reason)
    judged = dict(zip(both, verdicts, strict=True))
    return [judged.get(key) or _unanswered(prompts[key], texts[key], judge.name) for key in keys]


def _unanswered(prompt: Prompt, texts: tuple[str | None, str | None], judge: str) -> Verdict:
    first, second = (text or "" for text in texts)
    return Verdict(Comparison(prompt, first, second).id, VerdictState.FAILED, judge, reason="there is no answer")


def _compare(
    by: Comparing,
    prompts: Mapping[str, Prompt],
    answers: Answers,
    cut: Mapping[str, Sequence[bool]],
    common: Mapping[ModelPair, Sequence[str]],
    planned: Mapping[str, Plan],
    judge: str | None,
    verdicts: Verdicts,
) -> ImportedComparison:
    differences = with_holm(
        [d for pair, keys in common.items() for d in _differences(by, prompts, answers, pair, keys)]
    )
    results = [
        pair_result(
            pair,
            of_pair,
            _clusters(prompts, common[pair]),
            *([len(answers[model][key] or "") for key in common[pair]] for model in (pair.candidate, pair.reference)),
        )
        for pair, of_pair in verdicts.items()
    ]
    missing = missing_share(Counter(verdict.state for of_pair in verdicts.values() for verdict in of_pair))
    figures = {
        model: answer_figures([text for text in texts.values() if text is not None], cut.get(model))
        for model, texts in answers.items()
    }
    fewest = min(map(len, common.values()))
    return ImportedComparison(
        models={model: of_model.n for model, of_model in figures.items()},
        unanswered={m: n for m, texts in answers.items() if (n := sum(t is None for t in texts.values()))},
        judge=judge,
        plan=dict(planned),
        missing=missing,
        pairwise={str(result.pair): PairFigures.of(result) for result in results},
        table=tuple(map(ImportedRow.of, differences)),
        strengths=_strengths(verdicts, common, prompts) if len(answers) > 2 and verdicts else None,
        metrics=tuple(metric.name for metric in by.metrics),
        answers=figures,
        warnings=tuple(caveats_of(differences, results, figures, prompts=fewest, missing=missing)),
    )


def _clusters(prompts: Mapping[str, Prompt], keys: Sequence[str]) -> list[str]:
    return [prompts[key].cluster or prompts[key].id for key in keys]


def _differences(
    by: Comparing, prompts: Mapping[str, Prompt], answers: Answers, pair: ModelPair, keys: Sequence[str]
) -> list[MetricDifference]:
    """Each declared metric of two models on the prompts that both were asked, with the paired difference."""
    texts = {model: [answers[model][key] for key in keys] for model in (pair.candidate, pair.reference)}
    values = measure(by.metrics, [prompts[key] for key in keys], texts, by.folder)
    clusters = _clusters(prompts, keys)
    return [
        metric_difference(metric, pair, of_metric[pair.candidate], of_metric[pair.reference], clusters)
        for metric, of_metric in values.items()
    ]


def _strengths(
    verdicts: Verdicts, common: Mapping[ModelPair, Sequence[str]], prompts: Mapping[str, Prompt]
) -> dict[str, Interval]:
    """Bradley-Terry log-odds of every model against the first, from all verdicts; a prompt is a cluster."""
    rows = [
        (pair.candidate, pair.reference, verdict.outcome, cluster)
        for pair, of_pair in verdicts.items()
        for verdict, cluster in zip(of_pair, _clusters(prompts, common[pair]), strict=True)
        if verdict.outcome is not None
    ]
    if not rows:
        return {}
    first, second, outcomes, clusters = zip(*rows, strict=True)
    return bradley_terry(first, second, outcomes, first[0], clusters)
