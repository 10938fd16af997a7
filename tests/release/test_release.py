"""A release is what the gate judged, says everything that it rests on, and needs no Fairlead."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from openai import APIConnectionError, OpenAI
from transformers.utils.import_utils import is_serve_available

from fairlead import Project
from fairlead.config.release import ReleaseSettings
from fairlead.documents.release import ReleaseEvidence
from fairlead.documents.report import Report
from fairlead.errors import ArtifactError, ConfigError, ModelError
from fairlead.evaluation.reward_model import trained
from fairlead.files import hash_file, read_json, write_json
from fairlead.models.adapters import ModelVariant, variants_of
from fairlead.pipeline import datasets
from fairlead.release.checksums import SUMS, verify, write_checksums
from fairlead.release.evidence import gather
from fairlead.release.export import ReleaseError, release
from fairlead.release.model_card import _evaluation, _usage, model_card
from fairlead.release.serve import choose_engine, server, vllm_command
from fairlead.report.markdown import markdown
from fairlead.report.summary import reflection
from tests.support.files import flip
from tests.support.projects import tiny_config, write_config

PLAIN = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, base, prompts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if base:
    from peft import PeftModel
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
else:
    model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
texts = []
for turns in prompts:
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.eval().generate(**ids, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    texts.append(tokenizer.decode(out[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
print(json.dumps(texts))
"""
WITHOUT_FAIRLEAD = """
import contextlib, io, json, sys
sys.modules["fairlead"] = None
for line in sys.stdin:
    script, *arguments = json.loads(line)
    sys.argv = ["", *arguments]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(script, {"__name__": "__main__"})
    print(json.dumps(out.getvalue()), flush=True)
"""
Python = Callable[..., list[str]]


@pytest.fixture(scope="module")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Python]:
    """Runs a script with arguments in an interpreter that cannot import Fairlead; the lines that it printed.

    It is one interpreter for all scripts, because each would import torch and transformers anew.
    """
    log = tmp_path_factory.mktemp("plain") / "stderr"
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", WITHOUT_FAIRLEAD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def run(script: str, *arguments: str) -> list[str]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([script, *arguments]) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, log.read_text(encoding="utf-8")[-3000:]
        printed: str = json.loads(answer)
        return printed.splitlines()

    with process:
        yield run


def released(project: Project, to: Path, version: str = "v0.1.0", **kwargs: Any) -> Path:
    settings = kwargs.pop("settings", ReleaseSettings())
    return Path(release(project, version, str(to), settings=settings, **kwargs).where)


def greedy(python: Python, folder: Path, base: str, project: Project) -> list[str]:
    """What plain transformers and PEFT say to the eval prompts, with Fairlead out of reach."""
    prompts = datasets.prompts(project.artifact("prepare").file("eval.jsonl"))
    turns = json.dumps([[{"role": m.role, "content": m.content} for m in prompt.messages] for prompt in prompts])
    texts: list[str] = json.loads(python(PLAIN, str(folder), base, turns)[-1])
    return texts


BY_THE_CARD = """
import json, os, sys
show = print
for folder in sys.argv[2:]:
    os.chdir(folder)
    snippet = open("README.md").read().split("```python\\n")[1].split("```")[0]
    head, _, rest = snippet.partition("messages = ")
    tail = rest.partition("\\n")[2]
    texts = []
    names = {"print": texts.append}
    exec(head, names)
    for messages in json.loads(sys.argv[1]):
        exec(tail, {**names, "messages": messages})
    show(json.dumps(texts))
"""


def by_the_card(python: Python, project: Project, *folders: Path) -> list[list[str]]:
    """What the Python of each model card says to the eval prompts, run in the released folder, without Fairlead."""
    prompts = datasets.prompts(project.artifact("prepare").file("eval.jsonl"))
    turns = json.dumps([[{"role": m.role, "content": m.content} for m in prompt.messages] for prompt in prompts])
    return [json.loads(line) for line in python(BY_THE_CARD, turns, *map(str, folders)) if line.startswith("[")]


def answered(project: Project, view: str) -> list[str]:
    answers = datasets.completions(project.artifact("answers").file("answers.jsonl"))
    return [answer.text for answer in answers if answer.model == view]


@pytest.mark.slow
def test_a_release_of_either_model_loads_without_fairlead_and_gives_the_same_greedy_text(
    project: Project, plain_python: Python, tmp_path: Path
) -> None:
    """By the card's own words, and though the base's generation_config penalises repetition."""
    base = str(project.folder / "model")
    adapter = released(project, tmp_path / "out", settings=ReleaseSettings(base_model=base))
    assert read_json(adapter / "adapter_config.json")["base_model_name_or_path"] == base
    whole = released(project, tmp_path / "out", "v0.1.0-merged", merged=True)
    assert not (whole / "adapter_model.safetensors").exists()
    sft = released(project, tmp_path / "sft", candidate="sft", settings=ReleaseSettings(base_model=base))
    dpo_texts, sft_texts = answered(project, "dpo"), answered(project, "sft")
    assert by_the_card(plain_python, project, adapter, whole, sft) == [dpo_texts, dpo_texts, sft_texts]
    assert greedy(plain_python, whole, "", project) == answered(project, "dpo")


@pytest.mark.slow
def test_a_release_in_bfloat16_says_so_and_answers_by_its_card(
    tiny_project: Path, plain_python: Python, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dtype: auto` on a machine that computes bfloat16 in hardware; its texts may differ from those of one pass."""
    monkeypatch.setattr("fairlead.models.hardware.computes_bf16", lambda on: True)
    config = tiny_config()
    config["model"]["dtype"] = "auto"
    write_config(tiny_project, config)
    project = Project(tiny_project)
    project.run()
    folder = released(project, tmp_path / "out", settings=ReleaseSettings(base_model=str(tiny_project / "model")))
    assert read_json(folder / "evidence.json")["dtype"] == "bfloat16"
    assert "dtype='bfloat16'" in (folder / "README.md").read_text()
    [texts] = by_the_card(plain_python, project, folder)
    assert len(texts) == len(answered(project, "dpo")) == 8


def test_a_base_that_only_this_machine_has_is_warned_of(project: Project, tmp_path: Path) -> None:
    result = release(project, "v1", str(tmp_path), settings=ReleaseSettings())
    assert "set release.base_model" in result.warnings[0]
    card = ModelCard.load(tmp_path / "v1" / "README.md")
    assert card.data.base_model is None
    assert "was a local folder" in card.text
    named = release(project, "v2", str(tmp_path), settings=ReleaseSettings(base_model="org/base"))
    assert named.warnings == ()
    assert ModelCard.load(tmp_path / "v2" / "README.md").data.base_model == "org/base"
    assert read_json(tmp_path / "v2" / "adapter_config.json")["base_model_name_or_path"] == "org/base"


def test_a_hub_id_is_named_with_its_revision() -> None:
    snippet = _usage("adapter", "org/base", "abc123", "bfloat16")
    assert "from_pretrained('org/base', revision='abc123', dtype='bfloat16')" in snippet


def test_what_a_model_or_a_judge_said_is_shown_and_not_obeyed(project: Project) -> None:
    hostile = "one answer: '<img src=x onerror=alert(1)> ![x](http://evil) `|'"
    content = read_json(project.artifact("report").file("report.json"))
    caveat = {"name": "repeated_answer", "text": hostile}
    report = Report.model_validate({**content, "warnings": [caveat], "judge": "a`<img src=x>|b"})
    for text in (_evaluation(report), reflection(report), markdown(report, "")):
        assert "&lt;img src=x onerror" in text
        assert "<img src=x onerror" not in text
        assert "![x](http" not in text
    assert "`a’<img src=x>¦b`" in _evaluation(report), "inside a code span"


def test_the_name_of_a_project_does_nothing_in_the_card_but_stand_there(project: Project, tmp_path: Path) -> None:
    evidence = ReleaseEvidence.read(released(project, tmp_path) / "evidence.json")
    report = Report.read(project.artifact("report").file("report.json"))
    card = model_card(
        name="mine \u202egnp.exe <img src=x>",
        version="v1",
        candidate="dpo",
        form="adapter",
        base="org/base",
        revision=None,
        dtype="float32",
        local=False,
        settings=ReleaseSettings(),
        evidence=evidence,
        record=None,
        report=report,
    )
    assert "# mine \\\\u202egnp.exe &lt;img src=x&gt; v1\n" in card
    assert "\u202e" not in card


def test_a_release_holds_all_that_it_rests_on(project: Project, tmp_path: Path) -> None:
    settings = ReleaseSettings(license="apache-2.0", data="Made up for a test.", limits="Not for real incidents.")
    folder = released(project, tmp_path, settings=settings)
    assert {path.name for path in folder.iterdir()} >= {
        *("adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md", "gate.json", "gate.md"),
        *("gate.xml", "reflection.md", "report.json", "evidence.json", "SHA256SUMS"),
    }
    evidence = read_json(folder / "evidence.json")
    gate = read_json(folder / "gate.json")
    assert (
        evidence["weights"]["adapter_model.safetensors"] == gate["adapters"]["dpo"]["model/adapter_model.safetensors"]
    )
    assert (evidence["eval_prompts"], evidence["config"]) == (gate["eval_prompts"], gate["config_hash"])
    assert {"torch", "transformers", "peft"} <= evidence["versions"].keys()
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    for text in ("Made up for a test.", "Not for real incidents.", "| length |", "dpo vs sft", "| leaks |"):
        assert text in card.text
    assert "Released despite" not in card.text
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_a_version_is_never_written_twice(project: Project, tmp_path: Path) -> None:
    folder = released(project, tmp_path)
    before = (folder / "README.md").read_bytes()
    with pytest.raises(ArtifactError, match="never written twice"):
        released(project, tmp_path, despite="I insist")
    assert (folder / "README.md").read_bytes() == before
    with pytest.raises(ConfigError, match="is not a valid version"):
        released(project, tmp_path, "../v1")


def failing(project: Project) -> Project:
    config = tiny_config()
    config["gate"]["criteria"].append({"figure": "table.length.dpo", "at_least": 1.5})
    write_config(project.folder, config)
    changed = Project(project.folder)
    changed.run("dpo")  # the decision reads the criteria; what was trained stays as it was
    return changed


def test_a_gate_that_failed_or_is_missing_is_refused(project: Project, tmp_path: Path) -> None:
    project = failing(project)
    with pytest.raises(ReleaseError, match="the gate has not run for the present config"):
        released(project, tmp_path / "out")
    project.run("report")
    with pytest.raises(ReleaseError, match=r"the gate says failed for dpo \(table\.length\.dpo\)"):
        released(project, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_reason_overrides_the_gate_and_stands_in_the_card_for_good(project: Project, tmp_path: Path) -> None:
    project = failing(project)
    missing = released(project, tmp_path, despite="for the red team only")
    assert "gate.json" not in {path.name for path in missing.iterdir()}
    project.run("report")
    failed = released(project, tmp_path, "v0.1.1", despite="for the red team only")
    for folder, problem in ((missing, "the gate has not run"), (failed, "the gate says failed")):
        card = (folder / "README.md").read_text()
        assert "Released despite the gate" in card
        assert problem in card
        assert "Reason given: for the red team only" in card
        assert read_json(folder / "evidence.json")["despite"] == "for the red team only"
    with pytest.raises(ConfigError, match="needs a reason"):
        released(project, tmp_path, "v0.1.2", despite=" ")


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("dpo", "model/adapter_model.safetensors"),
        ("prepare", "eval.jsonl"),
        ("gate", "gate.json"),
        ("eval", "comparison.json"),
        ("answers", "answers.jsonl"),
        ("report", "report.json"),
    ],
)
def test_one_flipped_byte_before_the_release_is_found(project: Project, tmp_path: Path, stage: str, file: str) -> None:
    flip(project.artifact(stage).file(file), 40)
    with pytest.raises((ReleaseError, ArtifactError), match=file.split("/")[-1].replace(".", r"\.")):
        released(project, tmp_path / "out")


def test_a_report_that_was_not_written_is_written(project: Project, tmp_path: Path) -> None:
    """As after plain `fairlead gate`."""
    shutil.rmtree(project.artifact("report").path)
    folder = released(project, tmp_path)
    assert (folder / "reflection.md").is_file()
    assert "Not evaluated" not in (folder / "README.md").read_text()


def test_a_manifest_whose_hash_is_not_that_of_its_files_is_found(project: Project) -> None:
    artifact = project.artifact("answers")
    manifest = read_json(artifact.path / "manifest.json")
    file = artifact.file("answers.jsonl")
    flip(file, 40)
    write_json(
        artifact.path / "manifest.json", {**manifest, "files": {**manifest["files"], "answers.jsonl": hash_file(file)}}
    )
    assert "answers: the hash in manifest.json does not match its files" in gather(project, "dpo").problems


def test_a_reason_overrides_data_that_have_changed_since_the_training(project: Project, tmp_path: Path) -> None:
    with (project.folder / "eval.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "another report of the disk"}) + "\n")
    project = Project(project.folder)
    with pytest.raises(ReleaseError, match="config or data have changed since dpo was trained"):
        released(project, tmp_path / "out")
    folder = released(project, tmp_path / "out", despite="the demonstration is today", merged=True)
    assert "config or data have changed" in (folder / "README.md").read_text()


def test_a_record_of_other_bytes_is_refused(project: Project) -> None:
    """Somebody else's gate record, whole in itself, put in the place of this one's."""
    gate = project.artifact("gate")
    record = read_json(gate.file("gate.json"))
    record["adapters"]["dpo"]["model/adapter_model.safetensors"] = "0" * 64
    record["judged"]["eval"] = "0" * 16
    record["eval_prompts"] = "0" * 64
    record["config_hash"] = "0" * 16
    write_json(gate.file("gate.json"), record)
    problems = " ".join(gather(project, "dpo").problems)
    for text in (
        "gate.json has changed since the manifest",
        "judged eval 0000",
        "other weights of dpo",
        "other eval prompts",
        "another config",
    ):
        assert text in problems


def test_one_flipped_byte_of_any_released_file_is_found(project: Project, tmp_path: Path) -> None:
    folder = released(project, tmp_path)
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) > 10
    for name in names:
        flip(folder / name)
        with pytest.raises(ArtifactError, match="do not use this copy" if name == SUMS else name.replace(".", r"\.")):
            verify(folder)
        flip(folder / name)
    for name in (".gitattributes", ".cache/huggingface/x.metadata", ".git/HEAD"):  # as a hub's client leaves them
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    verify(folder)
    (folder / "extra").write_text("x")
    with pytest.raises(ArtifactError, match="extra was not released"):
        verify(folder)
    (folder / "extra").unlink()
    (folder / "README.md").unlink()
    with pytest.raises(ArtifactError, match=r"README\.md is missing"):
        verify(folder)
    with pytest.raises(ArtifactError, match="has no SHA256SUMS"):
        verify(tmp_path)


def test_a_folder_that_was_sealed_anew_around_other_weights_is_found(project: Project, tmp_path: Path) -> None:
    folder = released(project, tmp_path)
    flip(folder / "adapter_model.safetensors")
    write_checksums(folder)
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors differs from the hash in evidence\.json"):
        verify(folder)


def test_a_dry_run_writes_nothing(project: Project, tmp_path: Path) -> None:
    result = release(project, "v1", str(tmp_path / "out"), dry_run=True, settings=ReleaseSettings())
    assert result.dry_run
    assert "adapter_model.safetensors" in result.files
    assert not (tmp_path / "out").exists()
    hub = release(project, "v1", "hf://org/name", dry_run=True, settings=ReleaseSettings())
    assert (hub.where, hub.files.keys()) == ("hf://org/name", result.files.keys())


def test_vllm_is_given_the_adapters_of_one_base(project: Project, tmp_path: Path) -> None:
    views = variants_of(trained(project))
    argv = vllm_command(project, views, tmp_path, host="localhost", port=8000)
    assert argv[:3] == ("vllm", "serve", str(project.folder / "model"))
    modules = argv[argv.index("--lora-modules") + 1 :][:2]
    assert [module.split("=")[0] for module in modules] == ["sft", "dpo"]
    assert all((Path(module.split("=")[1]) / "adapter_config.json").is_file() for module in modules)
    assert argv[argv.index("--max-lora-rank") + 1] == "8", "the smallest that vLLM takes and that holds rank 4"
    template = Path(argv[argv.index("--chat-template") + 1]).read_text()
    assert template == project.artifact("dpo").file("model/chat_template.jinja").read_text()
    assert "--revision" not in argv, "a folder has none"
    full = {**views, "sft": ModelVariant(base=project.folder / "model")}
    with pytest.raises(ModelError, match="sft has full weights"):
        vllm_command(project, full, tmp_path, host="localhost", port=8000)


def test_transformers_server_is_given_merged_folders_named_as_the_models(project: Project, tmp_path: Path) -> None:
    command = server(project, "transformers", host="localhost", port=8000)
    assert {path.name for path in command.folder.iterdir()} == {"base", "sft", "dpo"}
    assert (command.folder / "base" / "model.safetensors").is_symlink()
    assert (command.folder / "base" / "chat_template.jinja").is_file()
    assert not (project.folder / "model" / "chat_template.jinja").exists(), "the user's folder stays as it is"
    assert command.env == {"HF_HUB_OFFLINE": "1"}
    stamp = (command.folder / "dpo" / "model.safetensors").stat().st_mtime_ns
    server(project, "transformers", host="localhost", port=8000)
    assert (command.folder / "dpo" / "model.safetensors").stat().st_mtime_ns == stamp
    manifest = project.artifact("dpo").path / "manifest.json"
    write_json(manifest, {**read_json(manifest), "hash": "trained anew"})
    server(project, "transformers", host="localhost", port=8000)
    assert (command.folder / "dpo" / "model.safetensors").stat().st_mtime_ns != stamp


@pytest.mark.skipif(not is_serve_available(), reason="transformers[serving] is not installed")
def test_transformers_server_answers_as_the_models_do(project: Project) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = server(project, "transformers", host="127.0.0.1", port=port)
    prompt = datasets.prompts(project.artifact("prepare").file("eval.jsonl"))[0]
    messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
    process = subprocess.Popen(
        command.argv,
        cwd=command.folder,
        env={**os.environ, **command.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        for name in ("dpo", "base"):
            assert ask(port, name, messages) == answered(project, name)[0]
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60)
        assert [model.id for model in client.models.list()] == ["base", "sft", "dpo"], "what a chat page lists"
        chunks = client.chat.completions.create(model="dpo", messages=messages, max_tokens=8, stream=True)  # type: ignore[call-overload]
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert streamed == answered(project, "dpo")[0], "what it shows while the answer is written"
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, model: str, messages: list[dict[str, str]]) -> str:
    """The endpoint's answer, once it listens."""
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60)
    for _ in range(240):
        try:
            reply = client.chat.completions.create(model=model, messages=messages, max_tokens=8, stream=False)  # type: ignore[arg-type]
            return str(reply.choices[0].message.content)
        except APIConnectionError:
            time.sleep(0.5)
    raise AssertionError("the server did not come up")


def test_a_server_that_is_not_installed_is_one_clear_line() -> None:
    with pytest.raises(ModelError, match=r"unknown engine 'ollama'.*transformers\[serving\]"):
        choose_engine("ollama")
