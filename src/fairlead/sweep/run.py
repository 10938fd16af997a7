"""`fairlead sweep`: trains and evaluates a list of settings from one reference pass, and recommends one by evidence.

A point of the sweep is the project with some keys of its config set otherwise. Its stages are the ordinary ones with
the ordinary artifacts, so what another point, or the project itself, has made already is not made again, and a sweep
that was killed goes on where it was. The reference's log-probabilities are kept by content and shared by all.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fairlead.config.project import CONFIG_NAME, Config, load_config, parse_config
from fairlead.config.yaml_file import parse_yaml, read_yaml
from fairlead.errors import ConfigError, DataError, TrainingError
from fairlead.files import read_json, read_jsonl, write_atomic, write_json
from fairlead.models.adapters import ModelName, variants_of
from fairlead.pipeline import datasets
from fairlead.pipeline.artifacts import Artifact
from fairlead.pipeline.lock import project_lock
from fairlead.pipeline.project import Project
from fairlead.progress import Progress, Silent
from fairlead.records import Interval, ModelPair, content_id, verdict_from_json
from fairlead.statistics.intervals import mean_interval
from fairlead.sweep.plot import draw
from fairlead.sweep.recommend import Point, Recommendation, advice, markdown, recommend

BETAS = (0.01, 0.05, 0.1, 0.3, 0.5, 1.0)
FOLDER = "sweep"

_SWEPT = ("dpo.", "watch.", "lora.")
_BEFORE = ("sft.", "sample.", "judge.", "pairs.", "data.", "model.")  # they make the reference, or the pairs
_KL_SAMPLES = 256


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Attributes:
        reference_rows: rows of which the reference was computed, and those that were known, over all points.
    """

    points: tuple[Point, ...]
    recommendation: Recommendation
    folder: Path

    def to_json(self) -> dict[str, Any]:
        found = self.recommendation
        return {
            "points": [
                {
                    "name": point.name,
                    "values": dict(point.values),
                    "win_rate": asdict(point.win_rate),
                    "kl": asdict(point.kl),
                    "validation_reward_gap": asdict(point.gap),
                    "validation_accuracy": point.accuracy,
                    "metrics": {name: asdict(mean) for name, mean in point.metrics.items()},
                    "failed": point.failed,
                    "equal_to_best": i in found.equal,
                    "usual_advice": advice(point.values),
                }
                for i, point in enumerate(self.points)
            ],
            "recommended": None if found.index is None else self.points[found.index].name,
            "why": found.why,
        }


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
    if key.startswith(_BEFORE):
        raise ConfigError(
            f"{key} changes what every point must share, the reference or the pairs, so their KL could not be compared",
            where=f"--over {text}",
            remedy=f"sweep keys of {', '.join(_SWEPT)}, or compare two projects",
        )
    if not key.startswith(_SWEPT):
        raise ConfigError(
            f"{key} cannot be swept",
            where=f"--over {text}",
            remedy=f"points must differ in training, not in how they are judged: keys of {', '.join(_SWEPT)}",
        )
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise ConfigError(f"{twice[0]} is there twice", where=f"--over {text}")
    return key, values


def variants(folder: Path, axes: Mapping[str, Sequence[Any]]) -> list[tuple[dict[str, Any], Config]]:
    """Every combination of the axes' values with the config that it makes; all are checked before any is trained.

    Raises:
        ConfigError: naming the point whose config cannot work.
    """
    config = load_config(folder)
    adapter = next((key for key in axes if key.startswith("lora.") and len(axes[key]) > 1), None)
    if adapter is not None and config.sft is not None:
        raise ConfigError(
            f"{adapter} is SFT's too, so every value would have another reference",
            where=str(folder / CONFIG_NAME),
            remedy="sweep keys of dpo., or lora. in a project without SFT (sft: null)",
        )
    raw: dict[str, Any] = read_yaml(folder / CONFIG_NAME)
    found = []
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        data = copy.deepcopy(raw)
        for key, value in values.items():
            _set(data, key.split("."), value)
        shown = ", ".join(f"{key}={value}" for key, value in values.items())
        found.append((values, parse_config(data, where=f"{folder / CONFIG_NAME} with {shown}")))
    return found


def _set(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        if data.get(part) is None:
            data[part] = {}
        data = data[part]
    data[path[-1]] = value


def sweep(
    folder: Path,
    axes: Mapping[str, Sequence[Any]] | None = None,
    *,
    kl_samples: int = _KL_SAMPLES,
    progress: Progress | None = None,
) -> Sweep:
    """Trains and evaluates every point, writes `sweep/`, and recommends one.

    Args:
        folder: the project folder.
        axes: values by config key; β from 0.01 to 1.0 if not given.
        kl_samples: held-out prompts on whose sampled answers the KL is measured.

    Raises:
        ConfigError: if the project compares no DPO model, so that no quality could be known.
    """
    folder, shown = Path(folder), progress or Silent()
    points_of = variants(folder, axes or {"dpo.beta": list(BETAS)})
    pair = _pair(points_of[0][1], folder)
    points = []
    for number, (values, config) in enumerate(points_of, 1):
        name = ", ".join(f"{key} {value}" for key, value in values.items())
        shown.line(f"[sweep {number}/{len(points_of)}] {name}")
        try:
            points.append(_point(folder, config, values, pair, kl_samples, shown))
        except TrainingError as error:  # that one point's; the others may well work
            shown.line(f"      failed: {error}")
            points.append(Point.without_figures(values, str(error)))
    project = Project(folder, progress=shown, config=points_of[0][1])
    held_out = datasets.prompts(project.artifact("prepare").file("eval.jsonl"))
    clusters = [prompt.cluster or prompt.id for prompt in held_out]
    found = Sweep(tuple(points), recommend(points, clusters), folder / FOLDER)
    write_json(folder / FOLDER / "sweep.json", found.to_json())
    write_atomic(folder / FOLDER / "sweep.md", markdown(points, found.recommendation, points_of[0][1].decide.waive))
    draw(points, found.recommendation, folder / FOLDER)
    return found


def _pair(config: Config, folder: Path) -> str:
    """The comparison that tells a point's quality: DPO against what it started from."""
    wanted = str(ModelPair("dpo", "sft" if config.sft is not None else "base"))
    if wanted not in config.eval.pairwise:
        raise ConfigError(
            f"eval.pairwise lacks {wanted}, so the quality of a point could not be known",
            where=str(folder / CONFIG_NAME),
            remedy=f"add {wanted} to eval.pairwise",
        )
    return wanted


def _point(
    folder: Path, config: Config, values: Mapping[str, Any], pair: str, kl_samples: int, progress: Progress
) -> Point:
    project = Project(folder, progress=progress, config=config)
    made = project.run("eval")
    comparison = read_json(made["eval"].file("comparison.json"))
    rate = comparison["pairwise"][pair]
    figures = made["dpo"].manifest.figures
    gap, low, high = (figures.get(f"validation_reward_gap{end}") for end in ("", "_low", "_high"))
    return Point(
        values=values,
        outcomes=outcomes_of(made["eval"].file("verdicts.jsonl"), pair),
        win_rate=Interval(rate["win_rate"], rate["low"], rate["high"], rate["n"], "the comparison's"),
        kl=_kl(project, made, kl_samples),
        gap=Interval(gap, low, high, figures["validation"], "t interval over pairs, prompts as clusters"),
        accuracy=figures.get("validation_accuracy"),
        metrics={
            row["metric"]: Interval(row["dpo"], row["dpo_low"], row["dpo_high"], row["n"], "the comparison's")
            for row in comparison["table"]
        },
    )


def outcomes_of(file: Path, pair: str) -> tuple[float | None, ...]:
    """What each verdict of a comparison counts for its first model, as in the comparison's win rate."""
    rows = (row for _, row in read_jsonl(file))
    return tuple(verdict_from_json(row).outcome for row in rows if row.pop("pair") == pair)


def _kl(project: Project, made: Mapping[str, Artifact], count: int) -> Interval:
    """KL from the reference on held-out prompts, k1 with a t interval; kept by what it was measured on."""
    from fairlead.sweep.kl import log_ratios

    prompts = datasets.prompts(made["prepare"].file("eval.jsonl"))[:count]
    limit = project.config.answers.max_new_tokens
    start = made["sft"].hash if "sft" in made else "base"
    key = content_id("sweep kl", made["dpo"].hash, start, [prompt.id for prompt in prompts], limit)
    kept = project.folder / FOLDER / "kl" / f"{key}.json"
    try:
        ratios = read_json(kept)
    except DataError:
        views = variants_of({name: made[name].file("model") for name in ("sft", "dpo") if name in made})
        reference: ModelName = "sft" if "sft" in made else "base"
        with project_lock(project.folder):
            ratios = log_ratios(
                project.config.model, project.folder, views, prompts, reference=reference, max_new_tokens=limit
            )
            write_json(kept, ratios)
    return mean_interval([sum(row) for row in ratios], [prompt.cluster or prompt.id for prompt in prompts])
