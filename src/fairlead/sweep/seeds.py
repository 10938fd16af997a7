"""`fairlead sweep --over seed=0,1,2`: the whole project for several seeds, and what their spread does to its figures.

The interval of one run is over prompts alone: it says what other prompts would give, not what another training would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fairlead.documents.evaluation import EvalResult
from fairlead.documents.sweep import SeedFigure, SeedsResult
from fairlead.errors import ConfigError, DataError
from fairlead.escape import code_span
from fairlead.files import read_jsonl, write_atomic
from fairlead.pipeline import outputs as files
from fairlead.pipeline.project import Project
from fairlead.progress import Progress, Silent
from fairlead.records import Interval, ModelPair, verdict_from_json
from fairlead.statistics.two_way import two_way_mean
from fairlead.sweep.run import FOLDER, over_start, variants

WIN_RATE = "win rate"
SEEDS_FILE, SEEDS_PAGE = "seeds.json", "seeds.md"
ALPHA = 0.05

Outcomes = dict[str, list[float | None]]  # of one seed: by figure, one value per held-out prompt


def compare_seeds(folder: Path, seeds: Sequence[int], progress: Progress | None = None) -> SeedsResult:
    """Runs the project up to its comparison with every seed, and writes what came of it to `sweep/`.

    Raises:
        ConfigError: for fewer than two seeds.
        DataError: if the seeds' runs have no prompt in common with values.
    """
    folder, progress = Path(folder), progress or Silent()
    if len(seeds) < 2:
        raise ConfigError("one seed has no spread", where="--over seed", remedy="give several, as in seed=0,1,2")
    runs: dict[int, Outcomes] = {}
    clusters: list[str] = []
    pair = ModelPair("dpo", "base")
    for number, (values, config) in enumerate(variants(folder, {"seed": list(seeds)}), 1):
        progress.line(f"[seed {number}/{len(seeds)}] seed {values['seed']}")
        project = Project(folder, progress=progress, config=config)
        pair = over_start(config)
        runs[values["seed"]], clusters = _outcomes(project, pair)
    result = seeds_result(pair, runs, clusters)
    result.write(folder / FOLDER / SEEDS_FILE)
    write_atomic(folder / FOLDER / SEEDS_PAGE, markdown(result))
    return result


def _outcomes(project: Project, pair: ModelPair) -> tuple[Outcomes, list[str]]:
    """Of one seed the verdict on every answer and the difference of every metric, and the clusters of their prompts."""
    made = project.run("eval")
    prompts = files.EVAL_PROMPTS.read(made["prepare"].file(files.EVAL_PROMPTS.name))
    outcomes: Outcomes = {}
    comparison = EvalResult.read(made["eval"].file(files.COMPARISON.name))
    if comparison.result_of(pair) is not None:
        rows = (row for _, row in read_jsonl(made["eval"].file(files.EVAL_VERDICTS.name)))
        outcomes[WIN_RATE] = [verdict_from_json(row).outcome for row in rows if row.pop("pair") == str(pair)]
    values: dict[str, dict[str, list[float | None]]] = {}
    for _, row in read_jsonl(made["eval"].file(files.SCORES.name)):
        for metric, value in row["values"].items():
            values.setdefault(metric, {}).setdefault(row["model"], []).append(value)
    for metric, by_model in values.items():
        both = zip(by_model[pair.candidate], by_model[pair.reference], strict=True)
        outcomes[metric] = [None if new is None or old is None else new - old for new, old in both]
    draws = range(project.config.answers.per_prompt)
    return outcomes, [prompt.cluster or prompt.id for prompt in prompts for _ in draws]


def seeds_result(pair: ModelPair, runs: Mapping[int, Outcomes], clusters: Sequence[str]) -> SeedsResult:
    """The figures over seeds and prompts, on the prompts that have a value with every seed.

    Args:
        runs: by seed; the same prompts in the same order.

    Raises:
        DataError: if no figure has two clusters of prompts with values.
    """
    names = [name for name in next(iter(runs.values())) if all(name in of_seed for of_seed in runs.values())]
    figures = [figure for name in names if (figure := _figure(name, runs, clusters)) is not None]
    if not figures:
        raise DataError("no figure has values on two held-out prompts with every seed", where="fairlead sweep")
    return SeedsResult(pair=str(pair), seeds=tuple(runs), figures=tuple(figures))


def _figure(name: str, runs: Mapping[int, Outcomes], clusters: Sequence[str]) -> SeedFigure | None:
    columns = list(zip(*(of_seed[name] for of_seed in runs.values()), strict=True))
    known = [number for number, of_prompt in enumerate(columns) if None not in of_prompt]
    groups = [clusters[number] for number in known]
    if len(set(groups)) < 2:
        return None
    found = two_way_mean(np.array([columns[number] for number in known], dtype=float).T, groups)
    return SeedFigure(
        name=name,
        over_seeds_and_prompts=found.mean,
        of_seeds=dict(zip(map(str, runs), found.of_seeds, strict=True)),
        seed_share=found.seed_share,
        seeds_differ_p=found.seeds_differ_p,
    )


def too_narrow(figure: SeedFigure) -> bool:
    """Whether the seeds differ by more than their prompts explain, so that one seed's interval is too narrow."""
    return figure.seeds_differ_p is not None and figure.seeds_differ_p < ALPHA


def sentence(result: SeedsResult) -> str:
    """Whether a single seed's intervals can be believed."""
    narrow = [figure.name for figure in result.figures if too_narrow(figure)]
    if not narrow:
        return "The seeds differ no more than their prompts explain: a single seed's interval can be believed."
    named = ", ".join(map(code_span, narrow))
    return (
        f"A single seed's interval is too narrow to be believed for {named}: trainings with other seeds differ by more."
    )


def markdown(result: SeedsResult) -> str:
    """The page of the seeds, which the report takes in."""
    pair = result.pair.replace("_", " ")
    lines = [
        f"# {len(result.seeds)} seeds",
        "",
        sentence(result),
        "",
        f"| {pair} | over seeds and prompts | each seed | seeds' share of the variance | p that they are one |",
        "|---|---|---|---|---|",
    ]
    for figure in result.figures:
        form = ".3f" if figure.name == WIN_RATE else "+.3f"
        each = ", ".join(f"{value:{form}}" for value in figure.of_seeds.values())
        share = "—" if figure.seed_share is None else f"{figure.seed_share:.0%}"
        p = "—" if figure.seeds_differ_p is None else f"{figure.seeds_differ_p:.2g}"
        cells = (code_span(figure.name), _interval(figure.over_seeds_and_prompts, form), each, share, p)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _interval(interval: Interval, form: str) -> str:
    if interval.value is None or interval.low is None or interval.high is None:
        return "—"
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}], n {interval.n}"
