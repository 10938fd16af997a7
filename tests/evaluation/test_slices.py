"""The comparison slice by slice: a loss on one slice is found, chance is not, and the gate can forbid it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead import Project
from fairlead.config.project import parse_config
from fairlead.documents.evaluation import Slices
from fairlead.errors import ConfigError, DataError
from fairlead.evaluation.slices import FEWEST, labels_of, slices_of, worse_counts
from fairlead.evaluation.table import metric_difference
from fairlead.files import read_json
from fairlead.records import ModelPair, Prompt, Verdict, VerdictState
from fairlead.report.slices import slices_markdown
from tests.support.projects import tiny_config, write_config

PAIR = ModelPair("dpo", "sft")


def of_slices(dpo: dict[str, list[float]], sft: dict[str, list[float]], outcomes: bool = False) -> Slices:
    """Slices of values by label, each prompt a cluster of its own."""
    labels: list[str | None] = [label for label, values in dpo.items() for _ in values]
    values = {"ok": {model: [v for vs in of.values() for v in vs] for model, of in (("dpo", dpo), ("sft", sft))}}
    both = zip(*values["ok"].values(), strict=True)
    states = [VerdictState.WIN if a > b else VerdictState.LOSS if a < b else VerdictState.TIE for a, b in both]
    verdicts = [Verdict(str(n), state, "judge") for n, state in enumerate(states)]
    clusters = [str(n) for n in range(len(labels))]
    return slices_of(values, verdicts if outcomes else None, labels, clusters, PAIR, by="kind")


def test_a_slice_is_a_cluster_or_a_value_of_gold() -> None:
    prompts = [
        Prompt.of("a", gold={"kind": "disk", "size": 3}, cluster="x"),
        Prompt.of("b", gold={"kind": ["a", "list"]}),
        Prompt.of("c"),
    ]
    assert labels_of(prompts, "kind") == ["disk", None, None]
    assert labels_of(prompts, "size") == ["3", None, None]
    assert labels_of(prompts, "cluster") == ["x", None, None]


def test_a_loss_on_one_slice_is_found_although_the_whole_gained() -> None:
    better, worse, equal = [1.0] * 60, [0.0] * 20, [1.0] * 20
    dpo = {"disk": better, "network": worse, "memory": equal, "rare": [0.0] * (FEWEST - 1)}
    sft = {"disk": [0.0] * 60, "network": [1.0] * 20, "memory": equal, "rare": [1.0] * (FEWEST - 1)}
    found = of_slices(dpo, sft, outcomes=True)
    assert [result.slice for result in found.slices] == ["disk", "memory", "network"]
    assert found.left_out == FEWEST - 1
    assert worse_counts(found) == 2, "the metric and the win rate of network"
    network = found.slices[-1]
    alone = metric_difference("ok", PAIR, worse, [1.0] * 20, [str(n) for n in range(20)])
    assert network.differences[0].delta == alone.delta
    assert network.win_rate is not None
    assert network.win_rate.value == 0
    assert network.p == pytest.approx(2 * 0.5**20)
    assert network.p_holm is not None
    assert network.p < network.p_holm <= 6 * network.p, "corrected over six figures"
    page = slices_markdown(found)
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert rows[0].startswith("| network | 20 | 0.000")
    assert rows[0].count("worse") == 2
    assert f"{FEWEST - 1} prompts are in no slice" in page


def test_without_a_judge_there_is_no_win_rate() -> None:
    found = of_slices({"disk": [1.0] * 12}, {"disk": [0.0] * 12})
    assert found.slices[0].win_rate is None
    assert worse_counts(found) == 0


def test_chance_is_called_worse_in_no_more_than_one_family_of_twenty() -> None:
    rng = np.random.default_rng(0)
    times, wrong = 120, 0
    for _ in range(times):
        draw = {label: rng.integers(0, 2, (2, 15)).astype(float) for label in "abcdef"}
        dpo, sft = ({label: list(of[side]) for label, of in draw.items()} for side in (0, 1))
        wrong += worse_counts(of_slices(dpo, sft)) > 0
    assert wrong <= 0.05 * times + 2 * (0.05 * 0.95 * times) ** 0.5


def sliced(**changes: Any) -> dict[str, Any]:
    config = tiny_config()
    config["eval"] = {**config["eval"], "slices": "kind", **changes}
    return config


def test_a_project_compares_by_slices(project: Project) -> None:
    folder: Path = project.folder
    rows = [
        {"prompt": f"eval report number {n} of the disk", "gold": {"kind": "even" if n % 2 else "odd"}}
        for n in range(24)
    ]
    (folder / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = sliced()
    config["gate"]["criteria"].append({"figure": "slices.worse", "at_most": 0})
    write_config(folder, config)
    Project(folder).run()
    report = read_json(folder / "report" / "report.json")
    assert {of["slice"]: of["prompts"] for of in report["slices"]["slices"]} == {"even": 12, "odd": 12}
    assert [c["figure"] for c in report["gate"]["criteria"]] == ["leaks", "slices.worse"]
    assert "### By `kind`" in (folder / "report" / "report.md").read_text(encoding="utf-8")


def test_a_field_that_no_prompt_has_is_one_line(project: Project) -> None:
    write_config(project.folder, sliced())
    with pytest.raises(DataError, match=r"eval\.slices: no eval prompt has kind — .*eval\.slices: cluster"):
        Project(project.folder).run("eval")


def test_a_criterion_on_slices_needs_them() -> None:
    config = tiny_config()
    config["gate"] = {"criteria": [{"figure": "slices.worse", "at_most": 0}]}
    with pytest.raises(ConfigError, match=r"slices\.worse"):
        parse_config(config)
