"""Every arm in the final table: the best prompt, models made elsewhere and an endpoint beside the project's models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from fairlead import Project
from fairlead.config.model import ModelSection
from fairlead.config.project import parse_config
from fairlead.cost.planned_calls import estimate_run
from fairlead.errors import ConfigError, JudgeError, ModelError
from fairlead.files import read_json, read_jsonl
from fairlead.gate.criteria import advice
from fairlead.models.chat import prompt_tokens
from fairlead.models.loading import load_tokenizer
from fairlead.preflight.check import check
from fairlead.records import Prompt
from fairlead.report.arms import worth_it
from tests.support.commands import fairlead
from tests.support.misbehaving import JudgeServer
from tests.support.projects import tiny_config, write_config
from tests.support.reports import demo_report

FORM = {"kind": "regex", "name": "form", "pattern": "severity: high"}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.llm.retry._FIRST_WAIT_S", 0.02)


def decided(**changes: Any) -> dict[str, Any]:
    """The config of a project whose decision is measured: no prompt gives the form, so it is to train."""
    config = tiny_config()
    config["data"]["dev"] = "dev.jsonl"
    config["decide"] = {
        "targets": [{"metric": "form", "at_least": 0.9}],
        "few_shot": {"ks": [1], "selection": ["fixed"]},
        "min_prompts": 5,
        "price_per_hour": 3.6,
    }
    config["eval"] = {"metrics": [*config["eval"]["metrics"], FORM], **changes}
    return config


@pytest.fixture
def folder(project: Project) -> Path:
    rows = [json.dumps({"prompt": f"dev report number {n} of the disk"}) for n in range(8)]
    (project.folder / "dev.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return project.folder


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = read_json(folder / "report" / "report.json")
    return report


def test_the_best_prompt_answers_beside_the_models(folder: Path) -> None:
    write_config(folder, decided())
    made = Project(folder).run()
    assert {stage: Project(folder).run()[stage].path for stage in made} == {name: a.path for name, a in made.items()}
    report = report_of(folder)
    assert list(report["arms"]) == ["base", "dpo", "prompted", "sft"]
    prompted, dpo = report["arms"]["prompted"], report["arms"]["dpo"]
    best = report["decision"]["nearest"]
    assert prompted["what"] == f"{best['candidate']}, base"
    assert prompted["metrics"].keys() == {"length", "form"}
    assert prompted["metrics"]["length"]["n"] == 8
    assert prompted["input_tokens"] >= dpo["input_tokens"] > 0
    assert dpo["cost_per_1000"] == pytest.approx(dpo["seconds_per_1000"] / 1000)  # 3.6 an hour is 0.001 a second
    assert {"dpo_vs_prompted", "sft_vs_prompted"} <= report["differences"].keys()
    assert report["pairwise"]["dpo_vs_prompted"]["n"] == 8
    assert {row["metric"] for row in report["table"]} == {"length", "form"}
    page = (folder / "report" / "report.md").read_text(encoding="utf-8")
    assert page.splitlines()[2].startswith(("SFT+DPO beats", "The best prompt", "That SFT+DPO beats the best prompt"))
    assert "| Best prompt |" in page
    shown = fairlead("report", str(folder), "--no-run").stdout.splitlines()
    heads = [number for number, line in enumerate(shown) if line.startswith(("arm ", "an answer takes "))]
    assert len(heads) == 2, "means and costs, each a table that fits"
    for number in heads:
        assert [line.split("  ")[0] for line in shown[number + 2 : number + 6]] == [
            "Base",
            "SFT",
            "SFT+DPO",
            "Best prompt",
        ]
        assert all(len(line) <= 80 for line in shown[number : number + 6])


def test_an_arm_is_what_its_model_says(folder: Path) -> None:
    """An adapter answers as in transformers, a copy of the project's base as the base does."""
    adapter = folder / "theirs"
    shutil.copytree(Project(folder).artifact("sft").file("model"), adapter)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: 40 * value for name, value in weights.items()}, adapter / "adapter_model.safetensors")
    shutil.copytree(folder / "model", folder / "released")
    arms = [{"name": "theirs", "model": "model", "adapter": "theirs"}, {"release": "released"}]
    write_config(folder, decided(arms=arms))
    answers = Project(folder).run("arms")["arms"].file("answers.jsonl")
    texts: dict[str, list[str]] = {}
    for _, row in read_jsonl(answers):
        texts.setdefault(row["model"], []).append(row["text"])
    own: dict[str, list[str]] = {}
    for _, row in read_jsonl(Project(folder).artifact("answers").file("answers.jsonl")):
        own.setdefault(row["model"], []).append(row["text"])
    assert texts["release"] == own["base"]
    assert texts["theirs"] != own["base"]
    tokenizer = load_tokenizer(ModelSection(name="model"), folder)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "model", dtype="float32"), adapter)
    for (_, row), text in zip(read_jsonl(folder / "eval.jsonl"), texts["theirs"], strict=True):
        ids = torch.tensor([prompt_tokens(Prompt.of(row["prompt"]), tokenizer)])
        said = model.generate(input_ids=ids, do_sample=False, max_new_tokens=8, repetition_penalty=1.0)
        assert tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True) == text


def test_an_endpoint_is_paid_once_and_one_that_goes_down_loses_nothing(folder: Path) -> None:
    said: list[str] = []

    def brain(messages: Any) -> str:
        said.append(messages[0]["content"])
        return "severity: high"

    with JudgeServer(brain=brain) as server:
        endpoint = {"kind": "openai", "model": "m", "base_url": server.base_url, "max_retries": 0, "concurrency": 1}
        arms = [{"name": "hosted", "endpoint": endpoint, "system": "Triage the report."}]
        server.override = lambda body, headers: (400, {}, "{}") if len(said) >= 4 else None
        write_config(folder, decided(arms=arms, pairwise=["dpo_vs_hosted"]))
        with pytest.raises(JudgeError, match=r"eval\.arms: hosted: 4 of 8 answers are missing.*asks for those alone"):
            Project(folder).run("arms")
        server.override = lambda body, headers: None
        made = Project(folder).run()
        assert server.stats.repeated == 0
    assert set(said) == {"Triage the report."}
    assert made["eval"].manifest.figures["prompts"] == 8
    report = report_of(folder)
    assert report["arms"]["hosted"]["metrics"]["form"]["value"] == 1
    assert report["arms"]["hosted"]["what"] == "m behind an endpoint"
    assert report["differences"]["dpo_vs_hosted"]["form"]["delta"] == -1


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"arms": ["prompted", "prompted"]}, "twice|two arms"),
        ({"arms": [{"name": "dpo", "model": "m"}]}, "eval.arms has two arms named dpo"),
        ({"arms": [{"name": "x y", "model": "m"}]}, "eval.arms.0"),
        ({"arms": ["best"]}, "prompted"),
        ({"pairwise": ["dpo_vs_promted"]}, "did you mean prompted"),
        ({"pairwise": ["dpo_vs_dpo"]}, "compares dpo with itself"),
    ],
)
def test_a_wrong_arm_is_one_line(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(decided(**section))


def test_a_waived_decision_has_no_best_prompt() -> None:
    assert parse_config(tiny_config()).arm_names == []
    with pytest.raises(ConfigError, match="decision, which finds the best prompt, is waived"):
        parse_config({**tiny_config(), "eval": {"arms": ["prompted"]}})


def test_the_default_gate_demands_that_dpo_is_not_worse_than_the_best_prompt() -> None:
    config = decided()
    del config["gate"]
    criteria = {criterion.figure: criterion for criterion in parse_config(config).gate_criteria}
    assert criteria["pairwise.dpo_vs_prompted"].not_worse_by == 0.05
    config["eval"]["pairwise"] = []
    criteria = {criterion.figure: criterion for criterion in parse_config(config).gate_criteria}
    assert criteria["metrics_worse_than_prompted"].at_most == 0


def test_the_gate_advises_the_prompt_where_it_is_as_good() -> None:
    assert advice({"dpo": "failed", "sft": "failed"}, prompting=True) == "release nothing: prompting is as good"
    assert advice({"dpo": "failed", "sft": "passed"}, prompting=True) == "release sft, drop dpo"
    assert advice({"dpo": "failed"}) == "release nothing"


def mean(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 150, "method": "score"}


def arm(form: float, severity: float, tokens: float) -> dict[str, Any]:
    return {
        "what": "a model", "input_tokens": tokens, "output_tokens": 0.0, "seconds_per_1000": 1.0,
        "cost_per_1000": None, "metrics": {"format": mean(form), "service_match": mean(severity)},
    }  # fmt: skip


def over_prompted(delta: float, half: float) -> dict[str, Any]:
    return {
        "delta": delta, "delta_low": delta - half, "delta_high": delta + half, "n": 150, "missing": 0, "word": "",
        "detectable": None, "delta_worst": None, "delta_best": None, "p": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("delta", "half", "sentence"),
    [
        (
            0.31,
            0.07,
            "SFT+DPO beats the best prompt by 0.310 [0.240, 0.380] in `service_match`, with 14% of its tokens.",
        ),
        (-0.2, 0.1, "The best prompt beats SFT+DPO by 0.200 [0.100, 0.300] in `service_match`: ship the prompt."),
        (0.02, 0.1, "That SFT+DPO beats the best prompt is not shown: +0.020 [-0.080, +0.120] in `service_match`."),
    ],
)
def test_the_first_sentence_speaks_of_the_target_that_the_prompt_misses_most(
    delta: float, half: float, sentence: str
) -> None:
    report = demo_report(
        arms={"sft": arm(1, 0.6, 100), "dpo": arm(1, 0.7, 100), "prompted": arm(0.9, 0.4, 700)},
        differences={
            "dpo_vs_prompted": {"format": over_prompted(0.5, 0.1), "service_match": over_prompted(delta, half)}
        },
    )
    assert {target.metric for target in report.decision.targets} >= {"format", "service_match"}
    assert worth_it(report) == sentence


def test_without_a_best_prompt_there_is_no_such_sentence() -> None:
    assert worth_it(demo_report()) is None


def test_review_knows_the_pairs_of_the_arms(project: Project) -> None:
    said = fairlead("review", str(project.folder), "--by", "ann", "--pair", "dpo_vs_promted").stderr
    assert "there is no pair dpo_vs_promted" in said


def test_an_arm_behind_an_endpoint_is_checked_and_estimated_before_a_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    endpoint = {
        "kind": "openai", "model": "m", "price_per_million_input_tokens": 1.0, "price_per_million_output_tokens": 2.0,
    }  # fmt: skip
    write_config(folder, decided(arms=[{"name": "hosted", "endpoint": endpoint}]))
    project = Project(folder)
    found = check(project, offline=True)
    assert [problem.where for problem in found.problems] == ["eval.arms.0.endpoint.api_key_env"]
    (asked,) = [row for row in estimate_run(project, ["arms"]) if row.stage == "arms"]
    (estimate,) = asked.judges
    assert (estimate.judge, estimate.questions) == ("openai:m", 8)
    assert estimate.cost is not None
    assert 0 < estimate.cost <= (estimate.most_cost or 0)


def test_a_missing_adapter_is_found_before_a_run(folder: Path) -> None:
    write_config(folder, decided(arms=[{"name": "theirs", "model": "model", "adapter": "nowhere"}]))
    (problem,) = check(Project(folder), offline=True).problems
    assert problem.where == "arms"
    assert f"eval.arms.0.adapter: {folder / 'nowhere'}: no such model folder" in problem.what
    write_config(folder, decided(arms=[{"name": "theirs", "model": "model", "adapter": "model"}]))
    with pytest.raises(ModelError, match=r"eval\.arms\.0\.adapter: model: is no PEFT adapter"):
        Project(folder).run("arms")


def test_two_models_of_one_name_behind_two_servers_are_two_arms(folder: Path) -> None:
    def answering(text: str) -> Any:
        return lambda messages: text

    with JudgeServer(brain=answering("severity: high")) as one, JudgeServer(brain=answering("severity: low")) as other:
        arms = [
            {"name": name, "endpoint": {"kind": "openai", "model": "m", "base_url": server.base_url}}
            for name, server in (("one", one), ("other", other))
        ]
        write_config(folder, decided(arms=arms, pairwise=["dpo_vs_sft", "one_vs_other"]))
        made = Project(folder).run("eval")
    said = {(row["model"], row["text"]) for _, row in read_jsonl(made["arms"].file("answers.jsonl"))}
    assert said == {("one", "severity: high"), ("other", "severity: low")}


@pytest.mark.slow
def test_a_project_whose_best_prompt_is_as_good_is_advised_to_ship_it(folder: Path) -> None:
    """By the only check that counts no arm's answers differ, on enough prompts to say so."""
    rows = [json.dumps({"prompt": f"eval report number {n} of the disk"}) for n in range(120)]
    (folder / "eval.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    config = decided(judge={"kind": "rubric", "checks": [FORM]})
    del config["gate"]
    write_config(folder, config)
    Project(folder).run()
    report = report_of(folder)
    assert report["pairwise"]["dpo_vs_prompted"]["high"] < 0.55
    assert report["gate"]["advice"] == "release nothing: prompting is as good"
    page = (folder / "report" / "report.md").read_text(encoding="utf-8")
    assert "release nothing: prompting is as good" in page
    assert page.splitlines()[2].startswith("The best prompt is as good as SFT+DPO")
