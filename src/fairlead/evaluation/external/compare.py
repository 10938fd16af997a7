"""`fairlead eval import`: answers that any system made, judged and measured like those of a project's own models.

Prompts are matched by their text. Every pair of models is compared on the prompts that both have answered, so that
models behind an API can stand beside base, SFT and DPO.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from fairlead.data.readers import read_prompts
from fairlead.errors import DataError, some
from fairlead.evaluation.caveats import answer_figures, warnings_of
from fairlead.evaluation.external.answers import ForeignAnswer, check_format, read_answers
from fairlead.evaluation.metrics import measure, verdicts_on
from fairlead.evaluation.table import difference_figures, ends, pairwise_figures, with_holm
from fairlead.files import write_json, write_jsonl
from fairlead.judges.base import Judge
from fairlead.judges.build import open_judge
from fairlead.judges.missing_verdicts import missing_share, refuse_if_missing
from fairlead.pipeline import datasets
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import resolve
from fairlead.records import Comparison, Prompt, Verdict, VerdictState, to_json
from fairlead.statistics.bradley_terry import bradley_terry
from fairlead.statistics.power import plan, plan_line

Answers = dict[str, dict[str, str | None]]  # by model, the answer to each prompt; None where it gave none
_OWN = ("base", "sft", "dpo")


def import_answers(
    project: Project, files: Sequence[Path], *, form: str, to: Path, own: bool = False, name: str | None = None
) -> dict[str, Any]:
    """Reads the files' answers, judges every pair of models with the project's judge, and writes what it found to `to`.

    Args:
        form: alpaca_eval or jsonl, see `foreign.read_answers`.
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
            f"holds the answers of one model ({some(answers)}), two are wanted",
            where=some(files),
            remedy="give a second file, or --own to compare it with the project's own models",
        )
    comparison, verdicts = _compare(project, prompts, answers, cut)
    write_json(to / "comparison.json", comparison)
    write_jsonl(to / "verdicts.jsonl", verdicts)
    return comparison


def _collect(found: Sequence[ForeignAnswer], name: str | None) -> tuple[dict[str, Prompt], Answers]:
    """Prompts and answers by what was asked. An answer that is given twice counts once."""
    prompts: dict[str, Prompt] = {}
    answers: Answers = {}
    named = {answer.model for answer in found if answer.model}
    for answer in found:
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
    taken = [model for model in answers if model in _OWN]
    if taken:
        raise DataError(
            f"the name {taken[0]} is taken by the project's own model",
            where="fairlead eval import --own",
            remedy="give the other system another one: --name NAME",
        )
    held = datasets.prompts(project.artifact("prepare").file("eval.jsonl"))
    keys = {prompt.id: _asked(prompt) for prompt in held}
    prompts.update({keys[prompt.id]: prompt for prompt in held})
    cut: dict[str, list[bool]] = {}
    for answer in datasets.completions(project.artifact("answers").file("answers.jsonl")):
        answers.setdefault(answer.model, {})[keys[answer.prompt_id]] = answer.text
        cut.setdefault(answer.model, []).append(answer.finish == "length")
    return cut


def _compare(
    project: Project, prompts: Mapping[str, Prompt], answers: Answers, cut: Mapping[str, Sequence[bool]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    settings = project.config.eval_judge
    common = {
        pair: [key for key in prompts if all(key in answers[m] for m in pair)] for pair in combinations(answers, 2)
    }
    for (first, second), keys in common.items():
        if not any(answers[first][key] is not None and answers[second][key] is not None for key in keys):
            raise DataError(
                f"{first} and {second} have answered no prompt in common", remedy="their texts must be equal"
            )
    planned = {_pair_name(pair): plan(_clusters(prompts, keys)) for pair, keys in common.items()}
    judged: dict[tuple[str, str], list[Verdict]] = {}
    judge_name = None
    if settings is not None:
        for each in planned.values():
            project.progress.line(f"      {plan_line(each)}")
        with open_judge(settings, project.folder) as judge:
            judge_name = judge.name
            judged = {pair: _judge(judge, project, prompts, answers, pair, keys) for pair, keys in common.items()}
    table = with_holm(
        [row for pair, keys in common.items() for row in _metric_rows(project, prompts, answers, pair, keys)]
    )
    pairwise = {
        _pair_name(pair): pairwise_figures(
            verdicts,
            _clusters(prompts, common[pair]),
            *([len(answers[model][key] or "") for key in common[pair]] for model in pair),
        )
        for pair, verdicts in judged.items()
    }
    missing = missing_share(Counter(verdict.state for verdicts in judged.values() for verdict in verdicts))
    looks = {
        m: answer_figures([t for t in texts.values() if t is not None], cut.get(m)) for m, texts in answers.items()
    }
    fewest = min(map(len, common.values()))
    comparison = {
        "models": {model: figures["n"] for model, figures in looks.items()},
        "unanswered": {m: n for m, texts in answers.items() if (n := sum(t is None for t in texts.values()))},
        "judge": judge_name,
        "plan": {pair: each.model_dump() for pair, each in planned.items()},
        "missing": missing,
        "pairwise": pairwise,
        "table": table,
        "strengths": _strengths(judged, common, prompts) if len(answers) > 2 and judged else None,
        "metrics": [metric.name for metric in project.config.eval.metrics],
        "answers": looks,
        "warnings": warnings_of(table, pairwise, looks, prompts=fewest, missing=missing),
    }
    lines = [{"pair": _pair_name(pair), **to_json(v)} for pair, verdicts in judged.items() for v in verdicts]
    return comparison, lines


def _pair_name(pair: tuple[str, str]) -> str:
    return "_vs_".join(pair)


def _clusters(prompts: Mapping[str, Prompt], keys: Sequence[str]) -> list[str]:
    return [prompts[key].cluster or prompts[key].id for key in keys]


def _judge(
    judge: Judge,
    project: Project,
    prompts: Mapping[str, Prompt],
    answers: Answers,
    pair: tuple[str, str],
    keys: Sequence[str],
) -> list[Verdict]:
    """A verdict for every prompt; a failed one where a model gave no answer, which is not the judge's fault."""
    texts = {key: (answers[pair[0]][key], answers[pair[1]][key]) for key in keys}
    both = {key: (first, second) for key, (first, second) in texts.items() if first is not None and second is not None}
    first, second = ([each[side] for each in both.values()] for side in (0, 1))
    asked = [prompts[key] for key in both]
    verdicts = verdicts_on(judge, asked, first, second, what=" vs ".join(pair), progress=project.progress)
    counts = Counter(verdict.state for verdict in verdicts)
    refuse_if_missing(counts, limit=project.config.eval.max_missing, key="eval.max_missing", judge=judge.name)
    found = dict(zip(both, verdicts, strict=True))
    return [found.get(key) or _unanswered(prompts[key], texts[key], judge.name) for key in keys]


def _unanswered(prompt: Prompt, texts: tuple[str | None, str | None], judge: str) -> Verdict:
    first, second = (text or "" for text in texts)
    return Verdict(Comparison(prompt, first, second).id, VerdictState.FAILED, judge, reason="there is no answer")


def _metric_rows(
    project: Project, prompts: Mapping[str, Prompt], answers: Answers, pair: tuple[str, str], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """Each declared metric of two models on the prompts that both were asked, with the paired difference."""
    first, second = pair
    texts = {model: [answers[model][key] for key in keys] for model in pair}
    found = measure(project.config.eval.metrics, [prompts[key] for key in keys], texts, project.folder)
    clusters = _clusters(prompts, keys)
    return [
        {"metric": metric, "first": first, "second": second, **difference_figures(v[first], v[second], clusters)}
        for metric, v in found.items()
    ]


def _strengths(
    judged: Mapping[tuple[str, str], Sequence[Verdict]],
    common: Mapping[tuple[str, str], Sequence[str]],
    prompts: Mapping[str, Prompt],
) -> dict[str, Any]:
    """Bradley-Terry log-odds of every model against the first, from all verdicts; a prompt is a cluster."""
    rows = [
        (a, b, value, cluster)
        for (a, b), verdicts in judged.items()
        for verdict, cluster in zip(verdicts, _clusters(prompts, common[a, b]), strict=True)
        if (value := verdict.outcome) is not None
    ]
    if not rows:
        return {}
    first, second, outcomes, clusters = zip(*rows, strict=True)
    return {name: ends(found) for name, found in bradley_terry(first, second, outcomes, first[0], clusters).items()}
