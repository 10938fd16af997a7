"""Models made elsewhere: what fits the base is taken, and what does not is refused in one line that says why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from fairlead.config.model import ModelSection
from fairlead.config.stage_settings import ImportedDpoSettings, ImportedSftSettings
from fairlead.config.training import ImportedDpo, ImportedModel, SftSection
from fairlead.errors import ConfigError, ModelError
from fairlead.files import read_json, write_json
from fairlead.models.imported.adapter_config import looks_the_same
from fairlead.models.imported.adapter_tensors import check_adapter_tensors
from fairlead.models.imported.check import preflight
from fairlead.models.imported.source import ModelFiles, find_files
from fairlead.models.imported.tokenizer import check_tokenizer
from fairlead.models.imported.weights import check_weights
from fairlead.models.loading import load_base, load_tokenizer
from tests.support.hub_server import hub
from tests.support.models_made_elsewhere import edit_config, make_adapter, make_weights
from tests.support.once import made_once


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with a base, an adapter of it, and full weights trained from it."""

    def make(folder: Path) -> None:
        shutil.copytree(tiny_model, folder / "base")
        make_adapter(tiny_model, folder / "adapter", named="base", tokenizer=True)
        make_weights(tiny_model, folder / "weights")

    return made_once(tmp_path_factory, "made-elsewhere", make)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "project")


def sft(source: str = "adapter", **values: Any) -> ImportedSftSettings:
    return ImportedSftSettings(
        model=ModelSection(name="base"), source=ImportedModel.model_validate({"from": source, **values})
    )


def found(folder: Path, source: str = "adapter") -> ModelFiles:
    return find_files(sft(source).source, folder, "sft.from")


def test_an_adapter_of_the_base_passes_at_once(folder: Path) -> None:
    preflight(sft(), folder)
    config = check_adapter_tensors(found(folder), ModelSection(name="base"), folder, None)
    assert config.r == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peft_type": "IA3"}, "its peft_type is IA3"),
        ({"task_type": "SEQ_CLS"}, "its task_type is SEQ_CLS"),
        ({"modules_to_save": ["lm_head", "embed_tokens"]}, r"modules_to_save: lm_head, embed_tokens"),
        ({"bias": "all"}, "changes the base's biases"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights: pissa_niter_4"),
        ({"trainable_token_indices": [1, 2]}, "uses trainable_token_indices"),
        ({"layer_replication": [[0, 1], [0, 2]]}, "uses layer_replication"),
        ({"target_parameters": ["mlp.experts"]}, "uses target_parameters"),
    ],
)
def test_an_adapter_that_is_more_than_lora_is_refused_by_name(
    folder: Path, changes: dict[str, Any], reason: str
) -> None:
    edit_config(folder / "adapter", **changes)
    with pytest.raises(ModelError, match=reason + ".*merge it into its base"):
        preflight(sft(), folder)


def test_an_adapter_of_another_base_is_refused_with_both_names(folder: Path) -> None:
    edit_config(folder / "adapter", base_model_name_or_path="org/other")
    with pytest.raises(
        ModelError, match=r"sft\.from: adapter: the adapter's base is org/other, and model\.name is base"
    ):
        preflight(sft(), folder)
    preflight(sft(base="org/other"), folder)


@pytest.mark.parametrize(
    ("named", "name", "same"),
    [
        ("/scratch/models/Qwen2.5-0.5B/", "Qwen/Qwen2.5-0.5B", True),
        ("Qwen/Qwen2.5-0.5B", "/data/qwen2.5-0.5b", True),
        ("C:\\models\\Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B", True),
        ("unsloth/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B", False),
        ("/scratch/Qwen2.5-1.5B", "Qwen/Qwen2.5-0.5B", False),
        ("base", "weights", False),
    ],
)
def test_a_path_elsewhere_that_ends_in_the_bases_name_is_taken_for_it(
    made: Path, named: str, name: str, same: bool
) -> None:
    assert looks_the_same(named, name, made) is same


def test_an_adapter_that_names_the_base_by_another_path_is_of_that_base(folder: Path) -> None:
    edit_config(folder / "adapter", base_model_name_or_path=str(folder / "base"))
    preflight(sft(), folder)


def test_a_dpo_adapter_lies_on_the_full_weights_of_sft(folder: Path) -> None:
    make_adapter(folder / "weights", folder / "dpo", named="weights")

    def settings(sft: ImportedModel | SftSection | None) -> ImportedDpoSettings:
        source = ImportedDpo.model_validate({"from": "dpo"})
        return ImportedDpoSettings(model=ModelSection(name="base"), source=source, sft=sft)

    preflight(settings(ImportedModel.model_validate({"from": "weights"})), folder)
    with pytest.raises(ModelError, match=r"the adapter's base is weights, and model\.name is base"):
        preflight(settings(None), folder)
    with pytest.raises(ModelError, match=r"cannot lie on full weights that are trained here \(sft\.method: full\)"):
        preflight(settings(SftSection.model_validate({"method": "full"})), folder)


def change_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


LORA_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop(LORA_A), "lacks 1 of 8 tensors, such as .*layers.0.self_attn.q_proj.lora_A"),
        (lambda t: t.update({LORA_A.replace("q_proj", "k_proj"): t[LORA_A].clone()}), "has tensors .*k_proj"),
        (lambda t: t.update({LORA_A: torch.ones(5, 32)}), "does not fit the base model: size mismatch for .*q_proj"),
        (lambda t: t.update({LORA_A: torch.full((3, 32), torch.nan)}), "1 of its tensors hold NaN or infinity"),
    ],
    ids=["missing", "left over", "other rank", "nan"],
)
def test_tensors_that_are_not_the_configs_are_refused_by_name(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], reason: str
) -> None:
    change_tensors(folder / "adapter" / "adapter_model.safetensors", change)
    with pytest.raises(ModelError, match=r"sft\.from: adapter: .*" + reason):
        check_adapter_tensors(found(folder), ModelSection(name="base"), folder, None)


def test_targets_that_the_base_lacks_are_refused(folder: Path) -> None:
    edit_config(folder / "adapter", target_modules=["c_attn"])
    with pytest.raises(ModelError, match=r"does not fit the base model: .*c_attn"):
        check_adapter_tensors(found(folder), ModelSection(name="base"), folder, None)


def test_rank_patterns_and_dora_are_taken(folder: Path) -> None:
    make_adapter(folder / "base", folder / "adapter", named="base", use_dora=True, rank_pattern={"q_proj": 5})
    preflight(sft(), folder)
    config = check_adapter_tensors(found(folder), ModelSection(name="base"), folder, None)
    assert (config.use_dora, config.rank_pattern) == (True, {"q_proj": 5})


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda f: (f / "adapter_config.json").unlink(), "has neither adapter_config.json nor config.json"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
        (lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"), "only a pickle"),
        (lambda f: (f / "adapter_config.json").write_text("[]"), "its adapter_config.json holds no JSON object"),
        (lambda f: (f / "adapter_config.json").write_text("{"), "its adapter_config.json is not JSON"),
    ],
)
def test_a_folder_without_a_whole_model_is_one_line(
    folder: Path, break_it: Callable[[Path], object], reason: str
) -> None:
    break_it(folder / "adapter")
    with pytest.raises(ModelError, match=reason) as raised:
        preflight(sft(), folder)
    assert "\n" not in str(raised.value)


def test_of_several_adapters_one_has_to_be_named(folder: Path) -> None:
    shutil.copytree(folder / "adapter", folder / "run" / "sft")
    shutil.copytree(folder / "adapter", folder / "run" / "ref")
    with pytest.raises(ModelError, match=r"holds 2 models, ref, sft — name one, as in sft\.from: run/sft"):
        preflight(sft("run"), folder)
    preflight(sft("run/sft"), folder)


def test_a_path_that_is_absent_and_a_revision_of_a_folder_are_refused(folder: Path) -> None:
    for name in ("nothing", "./nothing", "a/b/nothing"):
        with pytest.raises(ModelError, match=r"sft\.from: .*nothing: no such model folder"):
            preflight(sft(name), folder)
    with pytest.raises(ModelError, match=r"sft\.revision: adapter is a folder, which has no revision v1"):
        preflight(sft(revision="v1"), folder)


def test_full_weights_have_to_be_of_a_model_like_the_base(folder: Path) -> None:
    section = ModelSection(name="base")
    check_weights(found(folder, "weights"), section, folder)
    change_tensors(folder / "weights" / "model.safetensors", lambda t: t.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ModelError, match=r"its weights lack model\.layers\.1\.mlp\.up_proj\.weight"):
        check_weights(found(folder, "weights"), section, folder)
    config = read_json(folder / "weights" / "config.json")
    write_json(folder / "weights" / "config.json", {**config, "num_hidden_layers": 3, "vocab_size": 301})
    with pytest.raises(
        ModelError, match=r"its vocab_size is 301, the base's \d+; num_hidden_layers is 3, the base's 2"
    ):
        check_weights(found(folder, "weights"), section, folder)
    write_json(folder / "weights" / "config.json", {**config, "quantization_config": {"quant_method": "gptq"}})
    with pytest.raises(ModelError, match=r"its weights are quantised \(gptq\)"):
        check_weights(found(folder, "weights"), section, folder)


def checked(folder: Path, section: ModelSection) -> list[str]:
    return check_tokenizer(found(folder), load_tokenizer(section, folder), section, folder)


def test_a_tokenizer_with_other_tokens_is_refused(folder: Path) -> None:
    section = ModelSection(name="base")
    assert checked(folder, section) == [
        "its tokenizer has no chat template, and it is taken to be trained with the project's"
    ]
    tokenizer = AutoTokenizer.from_pretrained(str(folder / "adapter"))
    tokenizer.add_tokens(["<|im_start|>"])
    tokenizer.save_pretrained(str(folder / "adapter"))
    with pytest.raises(ModelError, match=r"another vocabulary than the base's \(tokens of its own: <\|im_start\|>\)"):
        checked(folder, section)
    with pytest.raises(ModelError, match=r"model\.tokenizer: adapter: has another vocabulary than the base's"):
        load_tokenizer(ModelSection(name="base", tokenizer="adapter"), folder)


def test_another_chat_template_or_end_is_refused_until_it_is_the_projects(folder: Path) -> None:
    section = ModelSection(name="base")
    tokenizer = AutoTokenizer.from_pretrained(str(folder / "adapter"))
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    tokenizer.save_pretrained(str(folder / "adapter"))
    with pytest.raises(ModelError, match=r"its chat template writes 'user: .*set model\.tokenizer: adapter"):
        checked(folder, section)
    tokenizer.eos_token = "<pad>"
    tokenizer.save_pretrained(str(folder / "adapter"))
    with pytest.raises(ModelError, match=r"ends its answers with <pad>, the project's tokenizer with </s>"):
        checked(folder, section)
    assert checked(folder, ModelSection(name="base", tokenizer="adapter")) == []
    ours = load_tokenizer(ModelSection(name="base", tokenizer="adapter"), folder)
    assert (ours.eos_token, ours.chat_template) == ("<pad>", tokenizer.chat_template)


def test_a_model_without_a_tokenizer_is_taken_to_share_the_projects(folder: Path) -> None:
    for path in (folder / "adapter").glob("tokenizer*"):
        path.unlink()
    [note] = checked(folder, ModelSection(name="base"))
    assert note.startswith("it has no tokenizer with it")


def test_a_base_model_of_the_hub_that_is_an_adapter_is_refused_where_it_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers would load the adapter's base with it, so that the tuned model would be called base."""
    edit_config(folder / "adapter", base_model_name_or_path=str(folder / "base"))
    cached = folder / "hub" / "models--org--sft"
    shutil.copytree(folder / "adapter", cached / "snapshots" / ("1" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    with pytest.raises(ConfigError, match=r"model\.name names a PEFT adapter.*/base, and bring the adapter as sft: "):
        load_base(ModelSection(name="org/sft"), folder)


SCRIPT = """
import sys
from pathlib import Path
from fairlead.config.training import ImportedModel
from fairlead.errors import FairleadError
from fairlead.models.imported.source import find_files
try:
    source = ImportedModel.model_validate({"from": sys.argv[1], "revision": sys.argv[2] or None})
    model = find_files(source, Path(), "sft.from")
    print(model.commit, model.is_adapter, sorted(path.name for path in model.folder.iterdir()))
except FairleadError as error:
    print(error)
"""


def test_an_adapter_of_the_hub_is_downloaded_at_its_revision(made: Path, tmp_path: Path) -> None:
    def download(source: str, revision: str = "") -> str:
        """In a process of its own: the hub's address is read once, at import."""
        env = {**os.environ, "HF_ENDPOINT": there.address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        env |= {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-c", SCRIPT, source, revision]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True).stdout

    with hub() as there:
        files = {path.name: path.read_bytes() for path in (made / "adapter").iterdir()}
        there.files["org/sft"] = {**files, "optimizer.pt": b"not wanted"}
        there.tags["org/sft"] = {"v1": files}
        for revision in ("", "v1"):
            said = download("org/sft", revision)
            assert said.startswith(f"{'1' * 40} True"), said
            assert "adapter_model.safetensors" in said
            assert "optimizer.pt" not in said
        assert "sft.from: org/nothing: no folder of this name, and the hub gives no model" in download("org/nothing")
