"""What a finished project's models are used for: probe, score, try, and comparison with answers from elsewhere."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from peft import load_peft_weights, set_peft_model_state_dict
from pydantic import ValidationError
from typer.testing import CliRunner

from fairlead import Project
from fairlead.cli.evaluate import import_, score, try_
from fairlead.config.evaluation import ProbeSettings
from fairlead.config.model import ModelSection
from fairlead.config.stage_settings import DriftSettings
from fairlead.documents.drift import DriftResult
from fairlead.errors import ArtifactError, DataError
from fairlead.evaluation import drift, reward_model
from fairlead.evaluation.drift import accuracy, perplexity
from fairlead.evaluation.external.compare import import_answers
from fairlead.evaluation.reward_model import score_file, trained, try_prompt
from fairlead.files import read_json, write_json, write_jsonl
from fairlead.models import hardware
from fairlead.models.adapters import dpo_start, variants_of
from fairlead.models.generation import CompletionRequest, draw_tokens
from fairlead.models.loading import load_adapter, load_base, load_tokenizer
from fairlead.models.log_probs import Scored, answer_row, log_probs, text_rows
from fairlead.pipeline import datasets
from fairlead.pipeline.outputs import EVAL_PROMPTS
from fairlead.pipeline.stage import Context
from fairlead.records import Prompt, Sampling, to_json
from fairlead.statistics.intervals import proportion_interval
from fairlead.training.dpo import build_trainer
from fairlead.training.monitoring.policy_samples import PolicySamples


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Project:
    shutil.copytree(finished, tmp_path / "project")
    return Project(tmp_path / "project")


def test_log_probabilities_are_those_of_the_softmax_token_by_token(tiny_model: Path) -> None:
    model = load_base(ModelSection(name=str(tiny_model), dtype="float32"), tiny_model)
    scored = [Scored((5, 9, 12, 7), 2), Scored((8, 4), 1), Scored((3, 30, 31, 32, 33, 34), 5)]
    computed = log_probs(model, scored, pad_id=0, batch_size=2)
    for row, value in zip(scored, computed, strict=True):
        with torch.no_grad():
            table = model(input_ids=torch.tensor([row.tokens])).logits.log_softmax(-1)[0]
        first = len(row.tokens) - row.counted
        expected = sum(float(table[place - 1, row.tokens[place]]) for place in range(first, len(row.tokens)))
        assert value == pytest.approx(expected, abs=1e-4)


def test_an_answer_is_scored_with_its_end_and_without_its_prompt(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(ModelSection(name=str(tiny_model)), tiny_model)
    row = answer_row(Prompt.of("the disk"), "full", tokenizer, 64)
    assert tokenizer.decode(row.tokens[-row.counted :]) == "full</s>"
    with pytest.raises(DataError, match="nothing of the answer is left"):
        answer_row(Prompt.of("the disk"), "full", tokenizer, 2)


def test_windows_of_a_text_score_every_token_but_the_first_once(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(ModelSection(name=str(tiny_model)), tiny_model)
    windows = text_rows("the disk of the database is full " * 5, tokenizer, 10)
    ids = [
        tokenizer.bos_token_id,
        *tokenizer("the disk of the database is full " * 5, add_special_tokens=False)["input_ids"],
    ]
    assert [t for window in windows for t in window.tokens[1:]] == ids[1:]
    assert sum(window.counted for window in windows) == len(ids) - 1


def test_perplexity_of_a_uniform_model_is_its_vocabulary() -> None:
    windows = [Scored(tuple(range(size + 1)), size) for size in (9, 5, 9, 2)]
    interval = perplexity([-size * math.log(300) for size in (9, 5, 9, 2)], windows)
    assert interval.value == pytest.approx(300)
    spread = perplexity([-9.0, -10.0, -18.0, -1.0], windows)
    assert spread.value == pytest.approx(math.exp(38 / 25))
    assert spread.low is not None
    assert spread.low < spread.value < spread.high


def test_the_interval_of_the_perplexity_covers_what_it_says() -> None:
    rng = np.random.default_rng(0)
    windows = [Scored(tuple(range(size + 1)), size) for size in rng.integers(20, 100, 40)]
    hits = 0
    for _ in range(400):
        means = rng.normal(2.0, 0.3, len(windows))
        interval = perplexity([-m * w.counted for m, w in zip(means, windows, strict=True)], windows)
        assert interval.low is not None
        hits += interval.low <= math.exp(2.0) <= interval.high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_accuracy_of_the_implicit_reward_counts_equal_rewards_half() -> None:
    interval = accuracy([(1.0, 0.0)] * 8 + [(0.0, 1.0)] * 2)
    expected = proportion_interval(8, 10)
    assert (interval.value, interval.low, interval.high, interval.n) == (0.8, expected.low, expected.high, 10)
    assert accuracy([(1.0, 1.0), (1.0, 0.0)]).value == 0.75
    assert accuracy([]).value is None


def context(
    project: Project, section: ProbeSettings, out: Path, dtype: Literal["auto", "float32"] = "float32"
) -> Context[DriftSettings]:
    names = ("prepare", "sft", "pairs", "dpo")
    out.mkdir(exist_ok=True)
    model = project.config.model.model_copy(update={"dtype": dtype})
    variant = Project(project.folder, config=project.config.model_copy(update={"probe": section, "model": model}))
    return variant.context("probe", {name: project.artifact(name) for name in names}, out)


def test_the_probe_measures_forgetting_drift_and_the_implicit_reward(project: Project, tmp_path: Path) -> None:
    (project.folder / "general.txt").write_text("the database of the disk is full and the service is down " * 40)
    write_jsonl(project.folder / "task.jsonl", [{"prompt": f"say {n}", "gold": {}} for n in range(4)])
    checks = [{"kind": "length", "name": "short", "max_words": 3}]
    section = ProbeSettings.model_validate(
        {
            "texts": "general.txt",
            "task": "task.jsonl",
            "task_checks": checks,
            "kl_prompts": 4,
            "max_new_tokens": 6,
            "max_length": 64,
        }
    )
    figures = drift.run(context(project, section, tmp_path / "probe"))
    drift_result = read_json(tmp_path / "probe" / "probe.json")
    changes = {"perplexity_over_base", "general_short_over_base"}
    assert set(drift_result) == {
        "perplexity",
        "general_short",
        "implicit_reward_accuracy",
        "kl_from_reference",
        *changes,
    }
    ratio = drift_result["perplexity"]["dpo"]["value"] / drift_result["perplexity"]["base"]["value"]
    assert drift_result["perplexity_over_base"]["dpo"]["value"] == pytest.approx(ratio)
    assert set(drift_result["general_short_over_base"]) == {"sft", "dpo"}
    for name in ("perplexity", "general_short"):
        assert set(drift_result[name]) == {"base", "sft", "dpo"}
    # A random model knows nothing: its perplexity is near its vocabulary of about 300.
    assert 150 < drift_result["perplexity"]["base"]["value"] < 600
    assert drift_result["perplexity"]["sft"]["value"] != drift_result["perplexity"]["base"]["value"]
    assert drift_result["general_short"]["dpo"]["n"] == 4
    assert figures["implicit_reward_accuracy"] == drift_result["implicit_reward_accuracy"]["value"]
    assert drift_result["kl_from_reference"]["n"] == 4
    assert drift_result["kl_from_reference"]["value"] > 0


def test_the_probe_is_read_as_it_was_written(project: Project, tmp_path: Path) -> None:
    drift.run(context(project, ProbeSettings(max_new_tokens=6, kl_prompts=4), tmp_path / "probe"))
    path = tmp_path / "probe" / "probe.json"
    result = DriftResult.read(path)
    assert result.content() == read_json(path)
    assert set(result.content()) == {"implicit_reward_accuracy", "kl_from_reference"}, "what is not measured is absent"
    for field, value in (("specific_short", {}), ("general_short", {"dpo": 0.5}), ("perplexity", 3.0)):
        write_json(path, {**read_json(path), field: value})
        with pytest.raises(ArtifactError, match=r"does not fit.*fairlead run"):
            DriftResult.read(path)
        result.write(path)


@pytest.mark.parametrize("in_hardware", [False, True])
def test_the_probe_works_in_the_type_that_auto_means(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_hardware: bool
) -> None:
    monkeypatch.setattr(hardware, "computes_bf16", lambda _: in_hardware)
    dtypes: tuple[Literal["auto", "float32"], ...] = ("auto", "float32")
    results = {}
    for dtype in dtypes:
        drift.run(context(project, ProbeSettings(max_new_tokens=6, kl_prompts=4), tmp_path / dtype, dtype))
        results[dtype] = DriftResult.read(tmp_path / dtype / "probe.json")
    assert (results["auto"] == results["float32"]) == (not in_hardware)
    kl = results["auto"].kl_from_reference
    assert kl is not None
    assert kl.n == 4
    assert kl.value is not None
    assert kl.value >= 0


def test_a_policy_that_is_its_reference_has_no_drift_and_no_reward(project: Project, tmp_path: Path) -> None:
    stage_context = context(project, ProbeSettings(max_new_tokens=6), tmp_path / "probe")
    artifacts = stage_context.inputs.artifacts
    same = replace(
        stage_context, inputs=replace(stage_context.inputs, artifacts={**artifacts, "dpo": artifacts["sft"]})
    )
    drift.run(same)
    drift_result = read_json(tmp_path / "probe" / "probe.json")
    assert drift_result["kl_from_reference"]["value"] == pytest.approx(0.0, abs=1e-5)
    assert drift_result["implicit_reward_accuracy"]["value"] == pytest.approx(0.5)


def test_the_monitor_shows_the_kl_of_the_drift_stage_on_the_same_prompts_and_seeds(
    project: Project, tmp_path: Path
) -> None:
    probe = context(project, ProbeSettings(max_new_tokens=6, kl_prompts=4), tmp_path / "probe")
    drift.run(probe)
    trained = {name: project.artifact(name) for name in ("prepare", "sft", "pairs", "data_check")}
    (tmp_path / "dpo").mkdir()
    model = project.config.model.model_copy(update={"dtype": "float32"})
    trainer = build_trainer(
        project.context("dpo", trained, tmp_path / "dpo"),
        project.config.dpo,
        model,
        dpo_start(variants_of({"sft": trained["sft"].file("model")})),
        datasets.preferences(trained["pairs"].file("train.jsonl")),
        [],
    )
    weights = load_peft_weights(str(project.artifact("dpo").file("model")))
    set_peft_model_state_dict(trainer.model, weights, adapter_name="default")
    trainer.model.eval()
    requests = [CompletionRequest(prompt, Sampling(1.0, 1.0, 6)) for prompt in probe.read(EVAL_PROMPTS)[:4]]
    drawn = draw_tokens(trainer.model, trainer.tokenizer, requests, seed=probe.seed, batch_size=4)
    samples = PolicySamples(trainer, [row.prompt for row, _ in drawn], 6)
    kls = samples.kls(samples.prompts, [answer for _, answer in drawn])
    of_the_stage = read_json(tmp_path / "probe" / "probe.json")["kl_from_reference"]
    assert sum(kls) / 4 == pytest.approx(of_the_stage["value"], rel=1e-3)
    assert min(kls) > 0


def test_rows_that_are_too_long_to_be_scored_whole_are_counted(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_model, "_most_tokens", lambda _: 24)
    texts = [("the disk", "full"), ("the disk " * 40, "full"), ("the disk", "full " * 40)]
    write_jsonl(tmp_path / "answers.jsonl", [{"prompt": prompt, "answer": answer} for prompt, answer in texts])
    scored = score_file(project, tmp_path / "answers.jsonl").content()
    assert (scored["rows"], scored["prompt_too_long"], scored["answer_cut"]) == (2, [2], [3])


def test_probe_settings_that_cannot_work_are_refused() -> None:
    for wrong in ({"task": "x.jsonl"}, {"task_checks": [{"kind": "length", "name": "a", "max_words": 3}]}):
        with pytest.raises(ValidationError, match="belong together"):
            ProbeSettings.model_validate(wrong)


def pair_rows(project: Project) -> list[dict[str, Any]]:
    return [to_json(pair) for pair in datasets.preferences(project.artifact("pairs").file("validation.jsonl"))]


def test_scores_are_beta_times_the_log_ratio_to_the_model_dpo_started_from(project: Project, tmp_path: Path) -> None:
    pairs = pair_rows(project)
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    result = score_file(project, tmp_path / "pairs.jsonl", tmp_path / "scored.jsonl").content()
    inputs, section = trained(project), project.config.model
    tokenizer = load_tokenizer(section, project.folder)
    row = datasets.preferences(tmp_path / "pairs.jsonl")[0]
    scored = [answer_row(row.prompt, row.chosen, tokenizer, 1024)]
    values = []
    for name in ("dpo", "sft"):
        model = load_adapter(load_base(section, project.folder), inputs[name]).eval()
        values += log_probs(model, scored, pad_id=0, batch_size=1)
    assert result["scores"][0]["chosen_reward"] == pytest.approx(0.1 * (values[0] - values[1]), abs=1e-5)
    assert result["scores"][0]["margin"] == pytest.approx(
        result["scores"][0]["chosen_reward"] - result["scores"][0]["rejected_reward"]
    )
    assert (result["rows"], result["accuracy"]["n"]) == (len(pairs), len(pairs))
    assert len((tmp_path / "scored.jsonl").read_text().splitlines()) == len(pairs)


def test_single_answers_are_scored_too(project: Project, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "answers.jsonl", [{"prompt": "the disk", "answer": text} for text in ("full", "down")])
    scored = score_file(project, tmp_path / "answers.jsonl").content()
    assert scored["accuracy"] is None
    assert len({row["reward"] for row in scored["scores"]}) == 2
    with pytest.raises(DataError, match="no such file"):
        score_file(project, tmp_path / "absent.jsonl")


def test_try_gives_what_the_answers_stage_gives(project: Project) -> None:
    prompt = datasets.prompts(project.artifact("prepare").file("eval.jsonl"))[0]
    answers = try_prompt(project, prompt.text)
    stored = datasets.completions(project.artifact("answers").file("answers.jsonl"))
    assert {name: a.text for name, a in answers.items()} == {
        a.model: a.text for a in stored if a.prompt_id == prompt.id
    }
    assert list(answers) == ["base", "sft", "dpo"]


def foreign(path: Path, model: str, texts: list[str | None], form: str = "alpaca_eval") -> Path:
    keys = {"alpaca_eval": ("instruction", "output", "generator"), "jsonl": ("prompt", "answer", "model")}[form]
    prompts = [f"eval report number {n} of the disk" for n in range(len(texts))]
    write_jsonl(path, [dict(zip(keys, (p, t, model), strict=True)) for p, t in zip(prompts, texts, strict=True)])
    return path


def test_answers_from_elsewhere_are_compared_with_each_other(project: Project, tmp_path: Path) -> None:
    """The project's judge prefers the shorter answer."""
    short = foreign(tmp_path / "a.jsonl", "short", ["a"] * 6 + [None, "a"])
    long = foreign(tmp_path / "b.jsonl", "long", ["a long answer"] * 7 + ["a"])
    comparison = import_answers(project, [short, long], form="alpaca_eval", to=tmp_path / "out")
    pair = comparison.pairwise["short_vs_long"]
    assert (pair.win_rate, pair.n, pair.states["tie"]) == (6.5 / 7, 7, 1)
    assert (pair.missing, pair.worst, pair.best) == (1, 6.5 / 8, 7.5 / 8), "an answer that is null is missing"
    assert (comparison.missing, comparison.plan["short_vs_long"].prompts) == (1 / 8, 8)
    assert {caveat.name for caveat in comparison.warnings} == {"few_prompts", "missing_verdicts", "repeated_answer"}
    assert comparison.unanswered == {"short": 1}
    assert comparison.models == {"short": 7, "long": 8}
    [row] = comparison.table
    assert (row.metric, row.delta, row.n, row.missing, row.p_holm) == ("length", 0.0, 7, 1, None)
    assert read_json(tmp_path / "out" / "comparison.json") == comparison.model_dump(mode="json")
    assert len((tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()) == 8


def test_answers_from_elsewhere_stand_beside_the_projects_own(project: Project, tmp_path: Path) -> None:
    file = foreign(tmp_path / "a.jsonl", "api", ["a"] * 8, "jsonl")
    comparison = import_answers(project, [file], form="jsonl", to=tmp_path / "out", own=True)
    assert set(comparison.models) == {"api", "base", "sft", "dpo"}
    assert len(comparison.pairwise) == 6
    assert set(comparison.strengths) == {"api", "base", "sft", "dpo"}
    assert comparison.strengths["api"].value == 0.0


def test_an_imported_model_cannot_take_the_name_of_the_projects_own(project: Project, tmp_path: Path) -> None:
    file = foreign(tmp_path / "a.jsonl", "dpo", ["a"] * 8)
    with pytest.raises(DataError, match=r"the name dpo is taken.*--name NAME"):
        import_answers(project, [file], form="alpaca_eval", to=tmp_path / "out", own=True)
    comparison = import_answers(project, [file], form="alpaca_eval", to=tmp_path / "out", own=True, name="api")
    assert set(comparison.models) == {"api", "base", "sft", "dpo"}
    assert comparison.answers["dpo"].cut is not None
    assert comparison.answers["api"].cut is None, "nobody knows"


def test_the_eval_file_may_lie_in_the_home_folder(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project.folder))
    config = (project.folder / "fairlead.yaml").read_text().replace("eval: eval.jsonl", "eval: ~/eval.jsonl")
    (project.folder / "fairlead.yaml").write_text(config)
    files = [foreign(tmp_path / f"{n}.jsonl", n, [n] * 3) for n in ("a", "bb")]
    assert import_answers(Project(project.folder), files, form="alpaca_eval", to=tmp_path / "out").models


def test_what_cannot_be_compared_is_one_clear_line(project: Project, tmp_path: Path) -> None:
    one = foreign(tmp_path / "a.jsonl", "one", ["a"] * 3)
    with pytest.raises(DataError, match=r"answers of one model .*--own"):
        import_answers(project, [one], form="alpaca_eval", to=tmp_path / "out")
    other = tmp_path / "b.jsonl"
    write_jsonl(other, [{"instruction": "something else", "output": "x", "generator": "two"}])
    with pytest.raises(DataError, match="one and two have answered no prompt in common"):
        import_answers(project, [one, other], form="alpaca_eval", to=tmp_path / "out")
    more = foreign(tmp_path / "c.jsonl", "one", ["a", "a", "b"])
    with pytest.raises(DataError, match="a second answer of one to one prompt"):
        import_answers(project, [one, more], form="alpaca_eval", to=tmp_path / "out")
    twin = foreign(tmp_path / "d.jsonl", "twin", ["a"] * 3)
    same = import_answers(project, [one, one, twin], form="alpaca_eval", to=tmp_path / "out")
    assert same.models == {"one": 3, "twin": 3}, "an answer that is given twice counts once"
    write_jsonl(other, [{"instruction": "something else", "output": "x"}])
    with pytest.raises(DataError, match="names no model"):
        import_answers(project, [one, other], form="alpaca_eval", to=tmp_path / "out")


def test_the_commands_print_json_and_tables(project: Project, tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    for name, command in (("score", score), ("try", try_), ("import", import_)):
        app.command(name)(command)
    here = ["-C", str(project.folder)]
    write_jsonl(tmp_path / "answers.jsonl", [{"prompt": "the disk", "answer": "full"}])
    files = [str(foreign(tmp_path / f"{n}.jsonl", n, [n] * 8)) for n in ("one", "three")]
    calls = {
        "score": ["score", str(tmp_path / "answers.jsonl"), *here],
        "try": ["try", "the disk", *here],
        "import": ["import", *files, "--out", str(tmp_path / "out"), *here],
    }
    for name, arguments in calls.items():
        plain = CliRunner().invoke(app, arguments)
        assert plain.exit_code == 0, plain.output
        as_json = CliRunner().invoke(app, [*arguments, "--json"])
        assert isinstance(json.loads(as_json.stdout), dict), name
        expected = {"score": "reward", "try": "dpo", "import": "one vs three"}[name]
        assert expected in plain.stdout
