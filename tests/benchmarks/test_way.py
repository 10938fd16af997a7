"""The benchmark of the whole way: how it counts tokens, and that both of its ways run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.way import by_hand
from benchmarks.way.__main__ import markdown, rows_of
from benchmarks.way.needed import distinct_prefixes, needed_of
from benchmarks.way.tokens import counted
from benchmarks.way.work import Work, make_project
from fairlead import Project
from fairlead.config.model import ModelSection
from fairlead.files import write_jsonl
from fairlead.models.loading import load_tokenizer
from fairlead.records import Preference, Prompt, to_json

WORK = Work(
    sft_rows=8, prompts=4, completions=2, answers=2, batch_size=4, max_new_tokens=4, max_length=1024, sft_rate=1e-2
)


@pytest.mark.parametrize(
    ("rows", "count"),
    [([], 0), ([[1, 2, 3]], 3), ([[1, 2, 3], [1, 2, 3]], 3), ([[1, 2, 3], [4], [1, 2, 5, 6]], 6), ([[1], [1, 2]], 2)],
)
def test_a_beginning_that_rows_have_in_common_is_needed_once(rows: list[list[int]], count: int) -> None:
    assert distinct_prefixes(rows) == count


def test_what_the_layers_compute_is_counted(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.ones(3, 7, dtype=torch.long)
    with counted(tiny_model) as (computed, weights):
        with torch.no_grad():
            model(input_ids=ids)
        model(input_ids=ids[:1])
    model(input_ids=ids)
    assert (computed.tokens, computed.with_gradient) == (28, 7)
    layers = [module for module in model.get_decoder().layers.modules() if isinstance(module, torch.nn.Linear)]
    assert weights == sum(module.weight.numel() for module in layers)
    assert computed.flops(weights) == 2.0 * weights * 35


@pytest.fixture
def spec(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Both ways on random weights and advisories that are made up."""
    levels = ("low", "medium", "high", "critical")
    rows = [{"package": f"lib{n}", "severity": levels[n % 4], "text": f"fault {n} in the parser"} for n in range(14)]
    write_jsonl(tmp_path / "advisories.jsonl", rows)
    monkeypatch.setattr("benchmarks.way.work.ADVISORIES", tmp_path / "advisories.jsonl")
    weights, project = tmp_path / "model", tmp_path / "project"
    shutil.copytree(tiny_model, weights)
    load_tokenizer(ModelSection(name=str(weights)), tmp_path).save_pretrained(weights)  # with a chat template
    make_project(project, str(weights), "float32", WORK)
    return {
        "weights": str(weights), "project": str(project), "out": str(tmp_path / "by-hand"), "dtype": "float32",
        "work": WORK.values(),
    }  # fmt: skip


@pytest.mark.slow
def test_the_way_by_hand_trains_samples_and_answers(spec: dict[str, Any], tmp_path: Path) -> None:
    def run(stage: str, settings: Any = None) -> Any:
        return by_hand.STAGES[stage](json.loads(json.dumps({**spec, "settings": settings})), WORK)

    said = run("sft", "trl")
    assert said["rows"] == 8
    assert said["losses"][-1] < said["losses"][0]
    assert run("best_batch_size")["best"] in by_hand.BATCH_SIZES
    assert run("sample", 4)["completions"] == 8
    assert run("pairs")["pairs"] <= 4
    pairs = [Preference(Prompt.of("why?"), "a b", "c d")] * 4
    write_jsonl(tmp_path / "pairs.jsonl", map(to_json, pairs))
    spec["pairs"] = str(tmp_path / "pairs.jsonl")
    said = run("dpo", "trl, precomputed")
    assert said["losses"][0] == pytest.approx(0.6931, abs=1e-3), "the reference is where DPO begins"
    assert run("answers", 4)["answers"] == 6
    new = {"sample": 10, "answers": 6}
    needed = needed_of(Path(spec["weights"]), Path(spec["project"]), tmp_path / "pairs.jsonl", WORK, new)
    assert needed.keys() == {"sft", "sample", "dpo", "answers"}
    assert all(count > 20 for count in needed.values())


def test_the_project_is_one_that_fairlead_runs(spec: dict[str, Any]) -> None:
    names = [stage.name for stage in Project(Path(spec["project"])).remaining()]
    assert names[0] == "prepare"
    assert {"sft", "sample", "pairs", "dpo", "answers", "gate"} <= set(names)


def test_the_table_shows_ratios_and_a_stage_of_one_way() -> None:
    def figures(seconds: float, gib: float) -> dict[str, Any]:
        return {"seconds": seconds, "peak_gib": gib, "tokens": 200, "share_of_peak": 0.2}

    stages = ("sft", "sample", "pairs", "dpo", "answers")
    ways = {
        "by_hand": {stage: figures(40.0, 4.0) for stage in stages},
        "fairlead": {stage: figures(10.0, 1.0) for stage in (*stages, "gate")},
    }
    table = markdown(rows_of(ways, {"sft": 100}))
    assert "| sft | 40.0 | 10.0 | 4.0 | 4.00 → 1.00 | 2.00 → 2.00 | 20% → 20% |" in table
    assert "| gate | — | 10.0 | — | — → 1.00 | — | — → 20% |" in table
    assert "| whole way | 200.0 | 60.0 | 3.3 | — | — | — |" in table
