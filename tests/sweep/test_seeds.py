"""Several seeds of one project: trained each, compared over seeds and prompts, and said in the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fairlead import Project
from fairlead.errors import ConfigError
from fairlead.files import read_json
from fairlead.records import ModelPair
from fairlead.sweep.run import parse_axis
from fairlead.sweep.seeds import WIN_RATE, Outcomes, compare_seeds, markdown, seeds_result, sentence, too_narrow
from tests.support.commands import fairlead

PAIR = ModelPair("dpo", "sft")


def runs(spread: float, seeds: int = 3, prompts: int = 200) -> dict[int, Outcomes]:
    """Differences whose mean moves by `spread` from seed to seed."""
    rng = np.random.default_rng(0)
    return {
        seed: {"severity": list(0.3 + spread * (seed - 1) + 0.4 * rng.standard_normal(prompts))}
        for seed in range(seeds)
    }


def clusters(prompts: int = 200) -> list[str]:
    return [f"p{n}" for n in range(prompts)]


def test_seeds_that_differ_make_the_interval_wider_and_say_so() -> None:
    alike, apart = (seeds_result(PAIR, runs(spread), clusters()) for spread in (0.0, 0.2))
    widths = [
        (interval.high or 0) - (interval.low or 0)
        for interval in (result.figures[0].over_seeds_and_prompts for result in (alike, apart))
    ]
    assert widths[1] > 3 * widths[0]
    assert not too_narrow(alike.figures[0])
    assert too_narrow(apart.figures[0])
    assert "can be believed" in sentence(alike)
    assert sentence(apart).startswith("A single seed's interval is too narrow to be believed for `severity`")
    assert apart.figures[0].seed_share is not None
    assert apart.figures[0].seed_share > 0.8
    assert "| `severity` | +0.2" in markdown(apart)


def test_a_prompt_without_a_value_with_one_seed_counts_with_none() -> None:
    values = runs(0.0)
    values[1]["severity"][7] = None
    assert seeds_result(PAIR, values, clusters()).figures[0].over_seeds_and_prompts.n == 199


@pytest.mark.slow
def test_a_project_is_trained_with_every_seed(tiny_project: Path) -> None:
    Project(tiny_project).run()
    result = compare_seeds(tiny_project, [0, 1])
    assert result.seeds == (0, 1)
    assert [figure.name for figure in result.figures] == [WIN_RATE, "length"]
    report = read_json(tiny_project / "report" / "report.json")
    rate = result.figures[0]
    assert rate.of_seeds["0"] == pytest.approx(report["pairwise"]["dpo_vs_sft"]["win_rate"])
    assert read_json(tiny_project / "sweep" / "seeds.json")["pair"] == "dpo_vs_sft"
    Project(tiny_project).run()
    page = (tiny_project / "report" / "report.md").read_text(encoding="utf-8")
    assert "## Training seeds" in page
    assert sentence(result) in page
    assert compare_seeds(tiny_project, [0, 1]) == result, "nothing is trained again"


def test_what_cannot_be_swept_is_one_line(tiny_project: Path) -> None:
    assert parse_axis("seed=0,1,2") == ("seed", [0, 1, 2])
    with pytest.raises(ConfigError, match="a seed is a whole number"):
        parse_axis("seed=0,high")
    with pytest.raises(ConfigError, match="one seed has no spread"):
        compare_seeds(tiny_project, [3])
    said = fairlead("sweep", str(tiny_project), "--set", "seed=0,1", "--set", "dpo.beta=0.1,0.3").stderr
    assert "seed with dpo.beta: a point of a sweep has the project's seed — sweep them apart" in said
