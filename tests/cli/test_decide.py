"""`fairlead decide`, and what `sft`, `run` and the report make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead import Project
from fairlead.files import read_json, read_jsonl, write_jsonl
from tests.support.commands import fairlead
from tests.support.projects import tiny_config, write_config
from tests.support.reader import STYLES
from tests.support.triage import COLOR, FORMAT, TRIAGE, tickets

NEVER = {"name": "never", "kind": "regex", "pattern": "what no model says"}


def make(folder: Path, model: Path, **decide: Any) -> Path:
    """Tickets whose form only examples show, as a project without a dev file."""
    rows = tickets(300, 1)
    folder.mkdir()
    prompts = [{"prompt": text, "gold": {"severity": color}} for text, color in rows]
    write_jsonl(folder / "eval.jsonl", prompts[:30])
    write_jsonl(folder / "prompts.jsonl", prompts[30:])
    write_jsonl(
        folder / "sft.jsonl", [{"prompt": text, "answer": f"{STYLES[0]} : {color}"} for text, color in rows[30:]]
    )
    config = tiny_config()
    config["model"] = {"name": str(model)}
    config["eval"] = {"metrics": [FORMAT, COLOR, NEVER]}
    config["judge"] = {"kind": "rubric", "checks": [FORMAT, COLOR]}
    for stage in ("sft", "dpo"):
        config[stage] |= {"batch_size": 32, "epochs": 0.5}
    config["data"]["similarity"] = 1.0  # tickets differ in two words
    config["data"]["dev_prompts"] = 52
    config["decide"] = {"targets": TRIAGE, "few_shot": {"ks": [3], "selection": ["fixed"]}, **decide}
    write_config(folder, config)
    return folder


@pytest.mark.slow
def test_sft_refuses_what_prompting_can_do_and_a_waiver_lets_it_go_on(tmp_path: Path, reader: Path) -> None:
    folder = make(tmp_path / "project", reader)
    output = fairlead("decide", str(folder))
    assert output.returncode == 0, output.stderr
    assert "decision: prompting is enough" in output.stdout
    refused = fairlead("sft", str(folder))
    assert refused.returncode == 3
    assert "sft does not start: the decision is prompting is enough" in refused.stderr
    assert 'set decide: {waive: "your reason"}' in refused.stderr
    assert "Traceback" not in refused.stderr
    rows = {row.stage: row for row in Project(folder).status()}
    assert rows["decide"].state == "done"
    assert "prompting is enough" in rows["sft"].why

    decision = json.loads(fairlead("decide", str(folder), "--json").stdout)
    prepared = Project(folder).artifact("prepare")
    dev, sft, prompts = (
        {row["prompt"]["id"] if "prompt" in row else row["id"] for _, row in read_jsonl(prepared.file(f"{name}.jsonl"))}
        for name in ("dev", "sft", "prompts")
    )
    assert decision["prompts"] == len(dev) == 52
    assert not dev & (sft | prompts), "no dev prompt is trained on"

    waiver = tiny_config()["decide"]
    write_config(folder, {**_config(folder), "decide": waiver})
    done = fairlead("run", str(folder))
    assert done.returncode == 0, done.stderr
    reason = waiver["waive"]
    assert f"The decision was waived: {reason}" in done.stdout
    assert read_json(folder / "report" / "report.json")["decision"]["why"] == reason
    assert reason in (folder / "report" / "report.md").read_text(encoding="utf-8")


def test_another_list_of_candidates_trains_nothing_again(tmp_path: Path, reader: Path) -> None:
    folder = make(tmp_path / "project", reader, targets=[{"metric": "never", "at_least": 0.5}])
    made = Project(folder).run("sft")
    config = _config(folder)
    config["decide"]["few_shot"] = None
    write_config(folder, config)
    again = Project(folder).run("sft")
    assert again["decide"].path != made["decide"].path
    assert again["sft"].path == made["sft"].path


def _config(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((folder / "fairlead.yaml").read_text(encoding="utf-8"))
    return data
