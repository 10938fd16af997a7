"""A sweep trains every point from one reference pass, resumes, and recommends by evidence."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import pytest
from typer.testing import CliRunner

from fairlead import Project
from fairlead.config.evaluation import ProbeSettings
from fairlead.documents.sweep import SweepResult
from fairlead.documents.training import DpoResult
from fairlead.errors import ConfigError, FairleadError
from fairlead.evaluation.table import pair_result
from fairlead.files import read_json, write_jsonl
from fairlead.progress import Silent
from fairlead.records import Interval, ModelPair, Verdict, VerdictState, to_json
from fairlead.statistics.win_rate import win_rate
from fairlead.sweep.plot import draw
from fairlead.sweep.recommend import Point, advice, markdown, recommend
from fairlead.sweep.run import BETAS, outcomes_of, parse_axis, sweep, variants
from tests.support.projects import tiny_config, write_config


def point(beta: float, wins: int, kl: float | None, n: int = 200, first: int = 0) -> Point:
    """A point that wins `wins` of n prompts, from the one numbered `first` on, and ties on the others."""
    outcomes = tuple(1.0 if first <= i < first + wins else 0.5 for i in range(n))
    low, high = (None, None) if kl is None else (kl - 0.1, kl + 0.1)
    distance, none = Interval(kl, low, high, n, ""), Interval(None, None, None, 0, "")
    return Point({"dpo.beta": beta}, outcomes, win_rate(outcomes), distance, none, None, {"format": none})


def prompts(n: int = 200) -> list[str]:
    return [f"p{i}" for i in range(n)]


def test_the_smallest_kl_that_cannot_be_told_from_the_best_is_recommended() -> None:
    points = [point(0.01, 62, 20.0), point(0.1, 60, 4.0), point(0.3, 58, 1.5), point(1.0, 10, 0.2)]
    recommendation = recommend(points, prompts())
    assert recommendation.best == 0
    assert recommendation.equal == (0, 1, 2)
    assert recommendation.index == 2
    assert "beta 0.3 has the smallest KL of those that cannot be told from the best (beta 0.01" in recommendation.why


def test_a_best_that_stands_alone_is_recommended_whatever_its_kl() -> None:
    recommendation = recommend([point(0.1, 100, 9.0), point(1.0, 10, 0.2)], prompts())
    assert (recommendation.index, recommendation.equal) == (0, (0,))


def test_pairing_by_prompt_tells_apart_what_intervals_side_by_side_would_not() -> None:
    """Wins on the same prompts and fourteen more: the intervals overlap, that of the paired difference leaves out 0."""
    one, other = point(0.1, 110, 5.0), point(1.0, 96, 0.5)
    assert one.win_rate.low is not None
    assert other.win_rate.high is not None
    assert one.win_rate.low < other.win_rate.high
    assert recommend([one, other], prompts()).index == 0


def test_clusters_widen_the_difference() -> None:
    """The fourteen prompts that differ are one source's: that is one observation, not fourteen."""
    one, other = point(0.1, 110, 5.0), point(1.0, 96, 0.5)
    sources = [f"source {i // 20}" for i in range(200)]
    assert recommend([one, other], sources).index == 1


def test_a_point_without_verdicts_is_not_recommended_and_none_at_all_gives_none() -> None:
    silent = Point.not_measured({"dpo.beta": 0.5}, "no validation pass lay inside max_kl")
    assert recommend([silent], ["a", "b"]).index is None
    both = recommend([silent, point(0.1, 1, 2.0, n=2)], ["a", "b"])
    assert both.index == 1
    assert both.differences[0] is None


def test_without_any_kl_the_best_is_recommended() -> None:
    assert recommend([point(0.1, 60, None), point(0.3, 58, None)], prompts()).index == 0


def test_the_usual_advice_stands_beside_what_was_measured() -> None:
    points = [point(0.1, 60, 4.0), point(0.3, 58, 1.5)]
    text = markdown(points, recommend(points, prompts()))
    assert "| beta 0.1 (equal to the best) | 0.650 [" in text
    assert "standard |" in text
    assert "**recommended**" in text
    assert advice({"dpo.beta": 0.3}) == ""
    assert advice({"lora.r": 8}) == ""


def test_the_frontier_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    points = [point(0.1, 60, 4.0), point(0.3, 58, 1.5), point(1.0, 10, None)]
    recommendation = recommend(points, prompts())
    one, two = draw(points, recommendation, tmp_path / "one"), draw(points, recommendation, tmp_path / "two")
    assert [path.name for path in one] == ["frontier.png", "frontier.svg"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    svg = one[1].read_text(encoding="utf-8")
    assert "beta 0.3" in svg
    assert "beta 1.0" not in svg  # its KL is not known
    assert one[0].read_bytes().startswith(b"\x89PNG")


def test_axes_are_read_as_yaml() -> None:
    assert parse_axis("dpo.beta=0.05, 0.1") == ("dpo.beta", [0.05, 0.1])
    assert parse_axis("dpo.loss_type=[sigmoid],[ipo]") == ("dpo.loss_type", [["sigmoid"], ["ipo"]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dpo.beta", "a key and values are wanted"),
        ("dpo.beta=", "a key and values are wanted"),
        ("eval.metrics=1", "eval.metrics cannot be swept — points must differ in training"),
        ("sft.epochs=1,2", "sft.epochs changes what every point must share, the reference or the pairs"),
        ("sample.top_p=0.9", "sample.top_p changes what every point must share"),
        ("pairs.margin=0.1", "sweep keys of dpo., watch., lora., or compare two projects"),
        ("dpo.beta=0.1,0.1", "0.1 is there twice"),
        ("dpo.beta=[0.1", "not YAML"),
    ],
)
def test_an_axis_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_axis(text)


def test_every_point_is_checked_before_any_is_trained(tiny_project: Path) -> None:
    with pytest.raises(ConfigError, match=r"with dpo\.beta=-1.*dpo\.beta: input should be greater than 0"):
        variants(tiny_project, {"dpo.beta": [0.1, -1]})
    with pytest.raises(ConfigError, match=r"dpo\.bta: unknown key, did you mean beta"):
        sweep(tiny_project, {"dpo.bta": [0.1]})
    assert not (tiny_project / "artifacts").exists()


def test_axes_are_combined_and_the_projects_file_stays_as_it_is(tiny_project: Path) -> None:
    before = (tiny_project / "fairlead.yaml").read_bytes()
    runs = variants(tiny_project, {"dpo.beta": list(BETAS), "dpo.epochs": [2, 4]})
    assert [(config.dpo.beta, config.dpo.epochs) for _, config in runs] == [(b, r) for b in BETAS for r in (2, 4)]
    assert (tiny_project / "fairlead.yaml").read_bytes() == before
    with pytest.raises(ConfigError, match=r"lora\.r is SFT's too, so every value would have another reference"):
        variants(tiny_project, {"lora.r": [2, 4]})


def test_a_project_that_compares_nothing_with_sft_cannot_be_swept(tiny_project: Path) -> None:
    config = tiny_config()
    config["eval"]["pairwise"] = []
    write_config(tiny_project, config)
    with pytest.raises(ConfigError, match=r"add dpo_vs_sft to eval\.pairwise"):
        sweep(tiny_project)


def test_the_kl_of_a_point_is_that_of_the_drift_stage_and_its_gap_that_of_the_training(tiny_project: Path) -> None:
    (point,) = sweep(tiny_project, {"dpo.beta": [0.1]}).points
    artifacts = Project(tiny_project).run("probe")
    assert asdict(point.kl) == read_json(artifacts["probe"].file("probe.json"))["kl_from_reference"]
    training = DpoResult.read(artifacts["dpo"].file("training.json"))
    assert point.gap == training.validation_reward_gap
    assert point.accuracy == training.validation_accuracy
    assert artifacts["dpo"].manifest.figures["validation_reward_gap"] == point.gap.value


def test_a_project_without_a_drift_stage_is_swept_with_one(tiny_project: Path) -> None:
    write_config(tiny_project, tiny_config() | {"probe": None})
    (_, config), *_ = variants(tiny_project, {"dpo.beta": [0.1]})
    assert config.probe == ProbeSettings()
    (_, config), *_ = variants(tiny_project, {"dpo.beta": [0.1]}, kl_prompts=4)
    assert config.probe == ProbeSettings(kl_prompts=4)


def test_values_are_named_as_they_stand_in_the_yaml() -> None:
    point = Point.not_measured(
        {"dpo.loss_type": ["sigmoid", "sft"], "watch.max_kl": None, "dpo.beta": 1.0}, "no reason"
    )
    assert point.name == "loss_type [sigmoid, sft], max_kl null, beta 1.0"


def reference_rows(folder: Path) -> int:
    with closing(sqlite3.connect(folder / ".fairlead" / "reference.sqlite")) as db:
        return int(db.execute("SELECT count(*) FROM log_probs").fetchone()[0])


def test_a_point_counts_every_verdict_as_the_comparison_does(tmp_path: Path) -> None:
    states = [*VerdictState]
    verdicts = [Verdict(str(n), state, "judge") for n, state in enumerate(states)]
    verdicts[-1] = replace(verdicts[0], state=VerdictState.INCONSISTENT, orders=(VerdictState.WIN, VerdictState.TIE))
    rows = [{"pair": pair, **to_json(v)} for pair in ("dpo_vs_sft", "sft_vs_base") for v in verdicts]
    write_jsonl(tmp_path / "verdicts.jsonl", rows)
    outcomes = outcomes_of(tmp_path / "verdicts.jsonl", "dpo_vs_sft")
    assert outcomes == (1.0, 0.0, 0.5, 0.5, None, None, 0.75)
    counted = [outcome for outcome in outcomes if outcome is not None]
    result = pair_result(ModelPair("dpo", "sft"), verdicts, [v.comparison_id for v in verdicts])
    assert result.win_rate.value == pytest.approx(fmean(counted))


class Killed(Silent):
    """Dies when a stage begins for the second time."""

    def __init__(self, stage: str) -> None:
        self._stage, self._times = stage, 0

    def line(self, text: str) -> None:
        self._times += f"] {self._stage}:" in text
        if self._times == 2:
            raise KeyboardInterrupt


def test_a_sweep_pays_for_one_reference_pass_and_goes_on_after_a_kill(tiny_project: Path) -> None:
    Project(tiny_project).run("dpo")
    lock = (tiny_project / "fairlead.lock").read_bytes()
    known = reference_rows(tiny_project)
    axes = {"dpo.beta": [0.1, 0.5], "lora.r": [4]}
    with pytest.raises(KeyboardInterrupt):
        sweep(tiny_project, axes, kl_prompts=4, progress=Killed("probe"))
    trained = sorted((tiny_project / "artifacts" / "dpo").iterdir())
    result = sweep(tiny_project, axes, kl_prompts=4)
    assert sorted((tiny_project / "artifacts" / "dpo").iterdir()) == trained  # none was trained twice
    assert len(trained) == 2  # β 0.1 is the project's own
    assert reference_rows(tiny_project) == known
    assert (tiny_project / "fairlead.lock").read_bytes() == lock
    assert [p.values for p in result.points] == [{"dpo.beta": 0.1, "lora.r": 4}, {"dpo.beta": 0.5, "lora.r": 4}]
    for p in result.points:
        assert p.win_rate.n == 8
        assert p.kl.value is not None
        assert p.gap.value is not None
        assert p.metrics["length"].n == 8
    assert {f.name for f in (tiny_project / "sweep").iterdir()} == {
        "sweep.json", "sweep.md", "frontier.png", "frontier.svg",
    }  # fmt: skip


def test_a_point_that_fails_is_told_and_the_others_go_on(tiny_project: Path) -> None:
    config = tiny_config()
    config["watch"] = {"samples": 4, "max_new_tokens": 8, "keep": "best", "max_kl": 1e-9}
    write_config(tiny_project, config)
    swept = sweep(tiny_project, {"watch.max_kl": [1e-9, 1e9]}, kl_prompts=4)
    failed, good = swept.points
    assert "inside max_kl" in (failed.failed or "")
    assert good.failed is None
    assert swept.recommendation.index == 1
    written = SweepResult.read(tiny_project / "sweep" / "sweep.json")
    assert written == swept.result
    assert written.points[0].failed == failed.failed
    page = (tiny_project / "sweep" / "sweep.md").read_text(encoding="utf-8")
    assert "max_kl 1e-09 failed: " in page
    assert "![frontier](frontier.svg)" in page
    assert "was waived:** random weights have nothing to decide" in page
    write_config(tiny_project, config | {"watch": {"samples": 0}})
    Project(tiny_project).run()
    report = tiny_project / "report"
    text = (report / "report.md").read_text(encoding="utf-8")
    assert "## Sweep" in text
    assert "max_kl 1e-09 failed: " in text
    assert (report / "frontier.svg").read_bytes() == (tiny_project / "sweep" / "frontier.svg").read_bytes()
    for name in ("report/report.md", "report/reflection.md", f"{_gate(tiny_project)}/gate.md"):
        assert "random weights have nothing to decide" in (tiny_project / name).read_text(encoding="utf-8"), name


def _gate(folder: Path) -> str:
    return next(path for path in (folder / "artifacts" / "gate").iterdir()).relative_to(folder).as_posix()


def test_the_command_prints_the_table_and_the_reason(tiny_project: Path) -> None:
    import typer

    from fairlead.cli.train import mount

    app = typer.Typer()
    mount(app)
    result = CliRunner().invoke(
        app, ["sweep", str(tiny_project), "--over", "dpo.beta=0.1", "--kl-samples", "4"], env={"COLUMNS": "160"}
    )
    assert result.exit_code == 0, result.output
    assert "recommended" in result.output
    log = next((tiny_project / "artifacts" / "dpo").glob("*/metrics.jsonl"))
    named = CliRunner().invoke(app, ["diagnose", str(log), "--json"])
    assert named.exit_code == 0
    assert '"findings"' in named.output
    missing = CliRunner().invoke(app, ["diagnose", str(tiny_project / "fairlead.yaml")])
    assert isinstance(missing.exception, FairleadError)
