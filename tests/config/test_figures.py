"""A criterion on a figure that the project does not measure is refused when the config is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fairlead import Project
from fairlead.config.figures import Names, split_path
from fairlead.config.project import parse_config
from fairlead.documents.gate import GateRecord
from fairlead.errors import ConfigError
from tests.support.projects import tiny_config, write_config

METRICS = [
    {"kind": "length", "name": "length", "max_words": 3},
    {"kind": "length", "name": "f1.macro", "max_words": 3},
    {"kind": "length", "name": "f1", "max_words": 3},
]
WITH_TASK = {"task": "task.jsonl", "task_checks": [{"kind": "length", "name": "short", "max_words": 3}]}
WITHOUT_SFT = {
    "sft": None,
    "data": {"prompts": "prompts.jsonl", "eval": "eval.jsonl"},
    "eval": {"metrics": METRICS, "pairwise": ["dpo_vs_base"]},
}


def criteria(figure: str, **changes: Any) -> dict[str, Any]:
    gate = {"criteria": [{"figure": figure, "at_least": 0}], "min_prompts": 5}
    return {**tiny_config(), "eval": {"metrics": METRICS}, "gate": gate, **changes}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (criteria("answers.dpo.cutt"), "answers.dpo: did you mean cut?"),
        (criteria("answers.dpo"), "names no figure: name one below it, such as answers.dpo.n"),
        (criteria("answers.dpo.most_common.text"), "known: times"),
        (criteria("answers.dop.cut"), "answers: did you mean dpo?"),
        (criteria("answers.sft.cut", **WITHOUT_SFT), "known: base, dpo"),
        (criteria("table.length.sft", **WITHOUT_SFT), "which is not measured (table.length: "),
        (criteria("table.length.sft_over_base.delta", **WITHOUT_SFT), "which is not measured (table.length: "),
        (criteria("table.length.word"), "which is not measured (table.length: "),
        (criteria("table.f1.macro.dpoo"), "table.f1.macro: did you mean dpo?"),
        (criteria("warnings.lenght"), "warnings: did you mean length?"),
        (criteria("warnings.length.n"), "warnings.length is a number and has nothing below it"),
        (criteria("probe.kl_from_referense.value"), "probe: did you mean kl_from_reference?"),
        (criteria("probe.kl_from_reference"), "such as probe.kl_from_reference.value"),
        (criteria("probe.kl_from_reference.value", probe={"kl_prompts": 0}), "which is not measured (probe: "),
        (criteria("probe.perplexity.dpo.value"), "which is not measured (probe: "),
        (criteria("probe.general_shor.dpo.value", probe=WITH_TASK), "probe: did you mean general_short?"),
        (criteria("probe.general_short_over_base.base.value", probe=WITH_TASK), "known: sft, dpo"),
        (criteria("training.dpo.reward_gab"), "training.dpo: did you mean reward_gap?"),
        (criteria("training.dpo.label_error"), "which is not measured (training.dpo: "),
        (criteria("training.pairs.counts.ties"), "training.pairs.counts: did you mean tie?"),
        (criteria("training.pairs.dropped.duplicates"), "which is not measured (training.pairs: "),
        (criteria("training.sft.train_loss", **WITHOUT_SFT), "training: known: pairs, dpo"),
        (criteria("pairwise.dpo_vs_sft.states.loose"), "pairwise.dpo_vs_sft.states: did you mean loss?"),
        (criteria("pairwise.dpo_vs_sft.pooled.hihg"), "pairwise.dpo_vs_sft.pooled: did you mean high?"),
    ],
)
def test_a_figure_that_nothing_measures_is_refused_with_the_nearest_name(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(config)
    assert config["gate"]["criteria"][0]["figure"] in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "config",
    [
        criteria("table.f1.macro.dpo"),
        criteria("table.f1.dpo"),
        criteria("table.f1.macro.sft_over_base.delta_low"),
        criteria("answers.base.most_common.times"),
        criteria("probe.general_short_over_base.dpo.low", probe=WITH_TASK),
        criteria("probe.perplexity_over_base.dpo.value", probe={"texts": "text.txt"}),
        criteria("training.dpo.label_error", dpo={"label_noise": "measured"}),
        criteria("training.pairs.dropped.near_duplicates", data_check={"drop": ["near_duplicates"]}),
        criteria("warnings.shared_judge"),
    ],
)
def test_what_the_project_measures_may_be_named(config: dict[str, Any]) -> None:
    assert len(parse_config(config).gate_criteria) == 1


def test_a_name_with_dots_is_one_name_and_the_longest_counts() -> None:
    tree = {"table": {"f1": {"dpo": None}, "f1.macro": {"dpo": None}}}
    assert split_path("table.f1.macro.dpo", tree) == ["table", "f1.macro", "dpo"]
    assert split_path("table.f1.dpo", tree) == ["table", "f1", "dpo"]
    assert split_path("table.f2.macro.dpo", tree) == ["table", "f2", "macro", "dpo"]


def paths(names: Names, above: str = "") -> Iterator[str]:
    for name, below in names.items():
        path = f"{above}.{name}" if above else name
        if below is None:
            yield path
        else:
            yield from paths(below, path)


def test_the_gate_finds_every_figure_that_the_config_lets_a_criterion_name(project: Project) -> None:
    """Of both candidates; without this the two lists could differ, and the gate would fail after all the training."""
    (project.folder / "task.jsonl").write_text('{"prompt": "report number 1"}\n', encoding="utf-8")
    config = tiny_config()
    config["eval"] = {"metrics": METRICS, "pairwise": ["dpo_vs_sft"]}
    config["probe"] = WITH_TASK
    figures = list(paths(parse_config(config).measured_figures))
    assert len(figures) > 150
    config["gate"]["criteria"] = [{"figure": figure, "above": -1e9} for figure in figures]
    write_config(project.folder, config)
    made = Project(project.folder).run("gate")
    record = GateRecord.read(made["gate"].file("gate.json"))
    measured = [result.figure for result in record.criteria if result.value is not None]
    assert [result.figure for result in record.criteria] == figures
    assert {"training.pairs.counts.tie", "table.f1.macro.dpo", "probe.general_short.dpo.value"} <= set(measured)
    assert "pairwise.sft_vs_base.states.tie" in [result.figure for result in record.candidates["sft"].criteria]
    assert "table.f1.macro.sft" in [result.figure for result in record.candidates["sft"].criteria]
    for stage in ("sft", "dpo"):
        values = made[stage].manifest.figures.items()
        numbers = {name for name, value in values if value is None or isinstance(value, float | int)}
        assert numbers - {"stopped_on"} == {f.split(".")[2] for f in figures if f.startswith(f"training.{stage}.")}
