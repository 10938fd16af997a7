"""`fairlead sweep`: trains and evaluates a list of settings from one reference pass, and recommends one by evidence.

A point of the sweep is the project with some keys of its config set otherwise. Its stages are the ordinary ones with
the ordinary artifacts, so what another point, or the project itself, has made already is not made again, and a sweep
that was killed resumes where it stopped. The reference's log-probabilities are kept by content and shared by all.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fairlead.config.evaluation import ProbeSettings
from fairlead.config.loading.yaml_file import parse_yaml, read_yaml
from fairlead.config.project import CONFIG_NAME, Config, load_config, parse_config
from fairlead.documents.evaluation import EvalResult
from fairlead.documents.sweep import SweepPoint, SweepResult
from fairlead.errors import ConfigError, TrainingError
from fairlead.files import read_jsonl, write_atomic
from fairlead.pipeline import outputs as files
from fairlead.pipeline.project import Project
from fairlead.progress import Progress, Silent
from fairlead.records import Interval, ModelPair, verdict_from_json
from fairlead.sweep.plot import draw
from fairlead.sweep.recommend import Point, Recommendation, advice, markdown, recommend

BETAS = (0.01, 0.05, 0.1, 0.3, 0.5, 1.0)
FOLDER = "sweep"

_SWEPT = ("dpo.", "watch.", "lora.")
_BEFORE = ("sft.", "sample.", "judge.", "pairs.", "data.", "model.")  # they make the reference, or the pairs


@dataclass(frozen=True)
class Sweep:
    """The points of a sweep, the recommendation, and the folder that holds both for people."""

    points: tuple[Point, ...]
    recommendation: Recommendation
    folder: Path

    @property
    def result(self) -> SweepResult:
        """The document `sweep.json`."""
        index = self.recommendation.index
        return SweepResult(
            points=[
                SweepPoint(
                    name=point.name,
                    values=dict(point.values),
                    win_rate=point.win_rate,
                    kl=point.kl,
                    validation_reward_gap=point.gap,
                    validation_accuracy=point.accuracy,
                    metrics=dict(point.metrics),
                    failed=point.failed,
                    equal_to_best=number in self.recommendation.equal,
                    usual_advice=advice(point.values),
                )
                for number, point in enumerate(self.points)
            ],
            recommended=None if index is None else self.points[index].name,
            why=self.recommendation.why,
        )


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """A key and its values from `dpo.beta=0.05,0.1`; values are YAML.

    Raises:
        ConfigError: if the text has another form, or the key is none that a sweep may set.
    """
    key, equals, listed = text.partition("=")
    key = key.strip()
    values = parse_yaml(f"[{listed}]", where=f"--over {text}")
    if not equals or not values:
        raise ConfigError("a key and values are wanted", where=f"--over {text}", remedy="as in --over dpo.beta=0.1,0.3")
    if key == "seed":
        if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            raise ConfigError("a seed is a whole number", where=f"--over {text}", remedy="as in --over seed=0,1,2")
    elif key.startswith(_BEFORE):
        raise ConfigError(
            f"{key} changes what every point must share, the reference or the pairs, so their KL could not be compared",
            where=f"--over {text}",
            remedy=f"sweep keys of {', '.join(_SWEPT)}, or compare two projects",
        )
    elif not key.startswith(_SWEPT):
        raise ConfigError(
            f"{key} cannot be swept",
            where=f"--over {text}",
            remedy=f"points must differ in training, not in how they are judged: keys of {', '.join(_SWEPT)}",
        )
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise ConfigError(f"{twice[0]} is there twice", where=f"--over {text}")
    return key, values


def variants(
    folder: Path, axes: Mapping[str, Sequence[Any]], *, kl_prompts: int | None = None
) -> list[tuple[dict[str, Any], Config]]:
    """Every combination of the axes' values with the config that it makes; all are checked before any is trained.

    Args:
        kl_prompts: of the `probe` section of every point; the project's own if None.

    Raises:
        ConfigError: naming the point whose config cannot work.
    """
    config = load_config(folder)
    adapter = next((key for key in axes if key.startswith("lora.") and len(axes[key]) > 1), None)
    if not config.trains_dpo:
        raise ConfigError(
            "there is no DPO training to sweep: dpo.from brings a model that is trained already",
            where=str(folder / CONFIG_NAME),
            remedy="compare it with fairlead run, or train DPO here",
        )
    if adapter is not None and config.sft is not None and not config.trains_sft:
        raise ConfigError(
            f"{adapter} may be read by nothing: DPO goes on training an adapter of sft.from, with its rank and targets",
            where=str(folder / CONFIG_NAME),
            remedy="sweep keys of dpo.",
        )
    if adapter is not None and config.sft is not None:
        raise ConfigError(
            f"{adapter} is SFT's too, so every value would have another reference",
            where=str(folder / CONFIG_NAME),
            remedy="sweep keys of dpo., or lora. in a project without SFT (sft: null)",
        )
    raw: dict[str, Any] = read_yaml(folder / CONFIG_NAME)
    if kl_prompts is not None or config.probe is None:
        _set(raw, ["probe", "kl_prompts"], kl_prompts or ProbeSettings().kl_prompts)
    points = []
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        data = copy.deepcopy(raw)
        for key, value in values.items():
            _set(data, key.split("."), value)
        point = ", ".join(f"{key}={value}" for key, value in values.items())
        points.append((values, parse_config(data, where=f"{folder / CONFIG_NAME} with {point}", folder=folder)))
    return points


def _set(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        if data.get(name) is None:
            data[name] = {}
        data = data[name]
    data[path[-1]] = value


def sweep(
    folder: Path,
    axes: Mapping[str, Sequence[Any]] | None = None,
    *,
    kl_prompts: int | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Trains and evaluates every point, writes `sweep/`, and recommends one.

    Args:
        folder: the project folder.
        axes: values by config key; β from 0.01 to 1.0 if not given.
        kl_prompts: held-out prompts on whose sampled answers the KL is measured; `probe.kl_prompts` if None.

    Raises:
        ConfigError: if the project compares no DPO model, so that no quality could be known.
    """
    folder, progress = Path(folder), progress or Silent()
    configs = variants(folder, axes or {"dpo.beta": list(BETAS)}, kl_prompts=kl_prompts)
    first = configs[0][1]
    pair = _pair(first, folder)
    points = []
    for number, (values, config) in enumerate(configs, 1):
        progress.line(f"[sweep {number}/{len(configs)}] {', '.join(f'{key} {value}' for key, value in values.items())}")
        try:
            points.append(_point(Project(folder, progress=progress, config=config), values, pair))
        except TrainingError as error:  # of this point; the others may well work
            progress.line(f"      failed: {error}")
            points.append(Point.not_measured(values, str(error)))
    prepared = Project(folder, progress=progress, config=first).artifact("prepare")
    held_out = files.EVAL_PROMPTS.read(prepared.file(files.EVAL_PROMPTS.name))
    clusters = [prompt.cluster or prompt.id for prompt in held_out for _ in range(first.answers.per_prompt)]
    sweep = Sweep(tuple(points), recommend(points, clusters), folder / FOLDER)
    sweep.result.write(sweep.folder / "sweep.json")
    write_atomic(sweep.folder / "sweep.md", markdown(points, sweep.recommendation, first.decide.waive))
    draw(points, sweep.recommendation, sweep.folder)
    return sweep


def _pair(config: Config, folder: Path) -> str:
    """The comparison that tells a point's quality: DPO against what it started from."""
    pair = str(over_start(config))
    if pair not in config.judged_pairs:
        raise ConfigError(
            f"eval.pairwise lacks {pair}, so the quality of a point could not be known",
            where=str(folder / CONFIG_NAME),
            remedy=f"add {pair} to eval.pairwise",
        )
    return pair


def over_start(config: Config) -> ModelPair:
    """DPO against the model that it starts from."""
    return ModelPair("dpo", "sft" if config.sft is not None else "base")


def _point(project: Project, values: Mapping[str, Any], pair: str) -> Point:
    """Runs a point's stages and reads what they measured."""
    artifacts = project.run("eval") | project.run("probe")
    comparison = EvalResult.read(artifacts["eval"].file("comparison.json"))
    decisive = comparison.result_of(ModelPair.parse(pair))
    if decisive is None:
        raise LookupError(f"the comparison lacks {pair}")
    training = files.DPO_RESULT.read(artifacts["dpo"].file(files.DPO_RESULT.name))
    drift = files.DRIFT.read(artifacts["probe"].file(files.DRIFT.name))
    return Point(
        values=values,
        outcomes=outcomes_of(artifacts["eval"].file("verdicts.jsonl"), pair),
        win_rate=replace(decisive.win_rate, method="the comparison's"),
        kl=drift.kl_from_reference or Interval(None, None, None, 0, "no held-out prompt leaves room for an answer"),
        gap=training.validation_reward_gap,
        accuracy=training.validation_accuracy,
        metrics={row.metric: replace(row.means["dpo"], method="the comparison's") for row in comparison.table},
    )


def outcomes_of(file: Path, pair: str) -> tuple[float | None, ...]:
    """What each verdict of a comparison counts for its first model, as in the comparison's win rate."""
    rows = (row for _, row in read_jsonl(file))
    return tuple(verdict_from_json(row).outcome for row in rows if row.pop("pair") == pair)
