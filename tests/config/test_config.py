"""The YAML: what is accepted, what is refused, and that the refusal names the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.config.project import Config, load_config, parse_config
from fairlead.config.template import template
from fairlead.errors import ConfigError
from tests.support.projects import tiny_config


def changed(**sections: Any) -> dict[str, Any]:
    config = tiny_config()
    for name, value in sections.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) and name in config else value
    return config


def test_learning_rate_follows_the_method() -> None:
    config = tiny_config()
    config["dpo"] = {"method": "lora"}
    assert parse_config(config).dpo.learning_rate == 5e-5
    config["dpo"] = {"method": "full"}
    assert parse_config(config).dpo.learning_rate == 5e-6


def test_the_fields_own_defaults_are_the_literatures() -> None:
    config = parse_config({**tiny_config(), "dpo": {}, "lora": {}})
    assert (config.dpo.beta, config.dpo.epochs) == (0.1, 1.0)
    assert (config.lora.r, config.lora.alpha, config.lora.dropout) == (16, 32, 0.05)
    assert config.lora.targets == ["q_proj", "k_proj", "v_proj", "o_proj"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed(dpo={"betta": 1}), "dpo.betta: unknown key, did you mean beta?"),
        (changed(dpo={"beta": "strong"}), "dpo.beta: input should be a valid number"),
        (changed(dpo={"beta": 0}), "dpo.beta: input should be greater than 0"),
        (changed(model={"name": None}), "model.name: input should be a valid string"),
        (changed(judge=None), "judge is missing"),
        (changed(sft=None), "data.sft is read by nothing while sft is null"),
        (changed(model={"quantization": "4bit"}, dpo={"method": "full"}), "dpo.method: full cannot train a 4-bit base"),
        (changed(dpo={"label_smoothing": 0.1}), "label_smoothing is read only by the losses"),
        (changed(dpo={"save_every": 3, "log_every": 2}), "must be a multiple of log_every"),
        (changed(sample={"temperatures": [0.7]}), "a pair needs two completions per prompt"),
        (changed(data={"preferences": "x.jsonl"}), "not both"),
        (changed(gate={"criteria": [{"figure": "leaks"}]}), "at least one of above"),
        (changed(eval={"metrics": [{"kind": "regex", "name": "r", "pattern": "("}]}), "invalid regular expression"),
        (changed(seed=2**32), "seed: input should be less than 4294967296"),
        (changed(sample={"temperatures": [0.7, 0.7]}), "sample.temperatures: has 0.7 twice"),
        (changed(eval={"pairwise": ["dpo_vs_sft", "dpo_vs_sft"]}), "eval.pairwise: has dpo_vs_sft twice"),
        (changed(gate={"criteria": [{"figure": "leaks", "above": 1, "below": 0}]}), "the bounds contradict each other"),
        (changed(gate={"criteria": [{"figure": "leaks", "above": 1, "at_most": 1}]}), "bounds contradict each other"),
        (changed(gate={"criteria": [{"figure": "leak", "at_most": 0}]}), "is not measured, did you mean leaks?"),
        (changed(gate={"criteria": [{"figure": "leaks.n", "at_most": 0}]}), "leaks.n, which is not measured"),
        (changed(gate={"criteria": [{"figure": "table.lenght.dpo", "above": 0}]}), "did you mean length?"),
        (changed(gate={"criteria": [{"figure": "y" * 5000, "above": 0}]}), "at most 200 characters"),
        (changed(eval={"metrics": [{"kind": "length", "name": "y" * 5000, "max_words": 3}]}), "at most 100 characters"),
        (changed(gate={"criteria": [{"figure": "table.length", "above": 0}]}), "such as table.length.dpo"),
        (changed(gate={"criteria": [{"figure": "table.length.delta_lov", "above": 0}]}), "did you mean delta_low?"),
        (changed(gate={"criteria": [{"figure": "pairwise.dpo_vs_sft.winrate", "above": 0}]}), "mean win_rate?"),
        (changed(gate={"criteria": [{"figure": "probe.x", "above": 0}]}, probe=None), "probe.x, which is not measured"),
        (
            changed(gate={"criteria": [{"figure": "pairwise.dpo_vs_base.low", "above": 0}]}, eval={"pairwise": []}),
            "pairwise.dpo_vs_base.low, which is not measured",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_that_names_the_key(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(config)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def test_a_criterion_may_bound_a_figure_from_both_sides() -> None:
    criteria = [{"figure": "table.length.dpo", "at_least": 0.5, "at_most": 0.5}, {"figure": "data.failed", "below": 1}]
    criteria.append({"figure": "table.length", "not_worse_by": 0.1})
    assert len(parse_config(changed(gate={"criteria": criteria})).gate_criteria) == 3


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(dpo={"betta": 1, "epochs": -1}))
    assert "dpo.betta" in str(caught.value)
    assert "dpo.epochs" in str(caught.value)


def test_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fairlead init"):
        load_config(tmp_path)


def test_malformed_yaml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "fairlead.yaml").write_text("model:\n  name: [x\ndata: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"fairlead\.yaml:3: not YAML"):
        load_config(tmp_path)


def test_the_template_is_a_valid_config_with_every_key_explained() -> None:
    text = template()
    assert isinstance(parse_config(yaml.safe_load(text)), Config)
    for line in text.splitlines():
        if ":" in line and not line.lstrip().startswith("#") and not line.rstrip().endswith(":"):
            assert "#" in line or line.lstrip().startswith(("kind:", "criteria:")), line
