"""The `eval` stage: metrics, scores and win rates of base, SFT and DPO on the same prompts, with error bars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.checks import build_check
from fairlead.config import EvalSection
from fairlead.evaluation import statistics
from fairlead.files import write_json, write_jsonl
from fairlead.judges.base import Judge
from fairlead.judges.build import open_judge
from fairlead.judges.missing import MISSING, missing_share, refuse_if_missing
from fairlead.judges.settings import JudgeSettings
from fairlead.preferences import rows
from fairlead.records import Answer, Comparison, Completion, Prompt, Verdict, VerdictState, to_json
from fairlead.stages import Context, Figures

JUDGE_SCORE = "judge_score"
_OUTCOME = {VerdictState.WIN: 1.0, VerdictState.LOSS: 0.0, VerdictState.TIE: 0.5}

Values = dict[str, list[float | None]]  # by view, one value per prompt, None where undefined or missing


@dataclass(frozen=True)
class _Held:
    """The held-out prompts and every view's answers to them, in the same order."""

    prompts: list[Prompt]
    answers: dict[str, list[Completion]]

    @property
    def clusters(self) -> list[str]:
        return [prompt.cluster or prompt.id for prompt in self.prompts]


def run(context: Context) -> Figures:
    """Writes comparison.json (table and pairwise), scores.jsonl and verdicts.jsonl (the rows behind them)."""
    section: EvalSection = context.section("eval")
    settings: JudgeSettings | None = context.section("eval_judge")
    held = _read(context)
    metrics: dict[str, Values] = measure(section, held, context.folder)
    bounds: dict[str, tuple[float, float] | None] = dict.fromkeys(metrics, (0.0, 1.0))
    pairwise: dict[str, dict[str, Any]] = {}
    verdict_rows: list[dict[str, Any]] = []
    asked: Counter[Any] = Counter()
    judge_name = None
    if settings is not None and (section.pairwise or section.scores):
        with open_judge(settings, context.folder) as judge:
            judge_name = judge.name
            for name in section.pairwise:
                verdicts = _verdicts(name, held, judge, context)
                counts = Counter(verdict.state for verdict in verdicts)
                refuse_if_missing(counts, limit=section.max_missing, key="eval.max_missing", judge=judge.name)
                asked.update(counts)
                pairwise[name] = pairwise_figures(verdicts, held.clusters)
                verdict_rows += [{"pair": name, **to_json(verdict)} for verdict in verdicts]
            if section.scores:
                metrics[JUDGE_SCORE], counts = _scores(held, judge, context)
                refuse_if_missing(counts, limit=section.max_missing, key="eval.max_missing", judge=judge.name)
                asked.update(counts)
                bounds[JUDGE_SCORE] = None
    table = [table_row(name, values, held.clusters, bounds[name]) for name, values in metrics.items()]
    comparison = {
        "table": table,
        "pairwise": pairwise,
        "prompts": len(held.prompts),
        "missing": missing_share(asked),
        "judge": judge_name,
    }
    write_json(context.out / "comparison.json", comparison)
    write_jsonl(context.out / "scores.jsonl", _score_rows(held, metrics))
    write_jsonl(context.out / "verdicts.jsonl", verdict_rows)
    first = next(iter(pairwise.values()), {})
    return {"win_rate": first.get("win_rate"), "missing": comparison["missing"], "prompts": len(held.prompts)}


def _read(context: Context) -> _Held:
    prompts = rows.prompts(context.inputs["prepare"].file("eval.jsonl"))
    answers: dict[str, list[Completion]] = {}
    for answer in rows.completions(context.inputs["answers"].file("answers.jsonl")):
        answers.setdefault(answer.model, []).append(answer)
    return _Held(prompts, answers)


def measure(section: EvalSection, held: _Held, folder: Path) -> dict[str, Values]:
    """Every declared metric of every view's answer to every prompt."""
    found: dict[str, Values] = {}
    for settings in section.metrics:
        check = build_check(settings, folder)
        found[settings.name] = {
            view: [check(a.text, p.gold) for p, a in zip(held.prompts, answers, strict=True)]
            for view, answers in held.answers.items()
        }
    return found


def _verdicts(name: str, held: _Held, judge: Judge, context: Context) -> list[Verdict]:
    first, _, second = name.partition("_vs_")
    comparisons = [
        Comparison(prompt, a.text, b.text)
        for prompt, a, b in zip(held.prompts, held.answers[first], held.answers[second], strict=True)
    ]
    different = [c for c in comparisons if c.first != c.second]  # equal answers are a tie that nobody need be asked
    judged: dict[str, Verdict] = {}
    with context.progress.task("eval", name.replace("_", " "), len(different)) as bar:
        for verdict in judge.compare(different):
            judged[verdict.comparison_id] = verdict
            bar.update(len(judged))
    return [
        judged.get(c.id) or Verdict(c.id, VerdictState.TIE, judge.name, margin=0.0, reason="equal answers")
        for c in comparisons
    ]


def _scores(held: _Held, judge: Judge, context: Context) -> tuple[Values, Counter[Any]]:
    values: Values = {}
    counts: Counter[Any] = Counter()
    total = sum(map(len, held.answers.values()))
    done = 0
    with context.progress.task("eval", "scores", total) as bar:
        for view, answers in held.answers.items():
            values[view] = []
            items = [Answer(prompt, answer.text) for prompt, answer in zip(held.prompts, answers, strict=True)]
            for score in judge.score(items):
                values[view].append(score.value)
                counts[score.state] += 1
                done += 1
                bar.update(done)
    return values, counts


def table_row(
    metric: str,
    values: Mapping[str, Sequence[float | None]],
    clusters: Sequence[str],
    bounds: tuple[float, float] | None,
) -> dict[str, Any]:
    """A row of the table: means of the views, and Δ DPO over SFT with its 95 % interval, paired by prompt.

    Args:
        values: by view, one value per prompt; None where the metric is undefined or the score is missing.
        clusters: cluster of every prompt.
        bounds: range of the metric, where it has one.
    """
    row: dict[str, Any] = {"metric": metric}
    for view in ("base", "sft", "dpo"):
        present = [v for v in values.get(view, []) if v is not None]
        row[view] = sum(present) / len(present) if present else None
    reference = "sft" if "sft" in values else "base"
    both = [
        (d, s, c)
        for d, s, c in zip(values["dpo"], values[reference], clusters, strict=True)
        if d is not None and s is not None
    ]
    difference = statistics.paired_difference(
        [d for d, _, _ in both], [s for _, s, _ in both], [c for _, _, c in both], bounds=bounds
    )
    return {
        **row,
        "delta": difference.value,
        "delta_low": difference.low,
        "delta_high": difference.high,
        "n": difference.n,
        "missing": len(values["dpo"]) - difference.n,
        "against": reference,
        "word": _word(difference),
    }


def _word(difference: statistics.Interval) -> str:
    """What a difference may be called: one inside the noise is called one."""
    if difference.low is None or difference.high is None:
        return "undefined"
    if difference.low > 0:
        return "better"
    if difference.high < 0:
        return "worse"
    return f"no difference shown (±{(difference.high - difference.low) / 2:.3f})"


def pairwise_figures(verdicts: Sequence[Verdict], clusters: Sequence[str]) -> dict[str, Any]:
    """Win rate of the first over the second (ties count half) with its 95 % interval, and the count of every state."""
    present = [(_OUTCOME[v.state], c) for v, c in zip(verdicts, clusters, strict=True) if not v.missing]
    rate = statistics.win_rate([o for o, _ in present], [c for _, c in present])
    counts = Counter(verdict.state for verdict in verdicts)
    return {
        "win_rate": rate.value,
        "low": rate.low,
        "high": rate.high,
        "n": rate.n,
        "missing": sum(counts[state] for state in counts if state in MISSING),
        "states": {str(state): counts.get(state, 0) for state in VerdictState},
    }


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
