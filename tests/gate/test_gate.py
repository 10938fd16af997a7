"""The gate: passed, failed, or not enough evidence, and why."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError

from fairlead import Project
from fairlead.config.project import parse_config
from fairlead.config.release import Criterion, GateSection, default_criteria
from fairlead.documents.evaluation import EvalResult
from fairlead.documents.gate import Candidate, CandidateResult, CriterionResult, GateRecord, Status
from fairlead.errors import ArtifactError, ConfigError
from fairlead.escape import one_line, printable
from fairlead.files import hash_file, read_json, write_json
from fairlead.gate.criteria import advice, judge_candidate, judge_criterion, overall
from fairlead.gate.figures import (
    DPO_OVER_BASE,
    DPO_OVER_SFT,
    SFT_OVER_BASE,
    figure_tree,
    look_up,
    pair_faults,
    path_for,
)
from fairlead.gate.output import junit
from fairlead.gate.stage import template_hash
from fairlead.records import ModelPair, Preference, Prompt
from fairlead.release.evidence import verify_judged
from tests.support.commands import fairlead
from tests.support.files import flip
from tests.support.projects import tiny_config, write_config
from tests.support.reports import answers_of, difference_of, eval_result, pair_of, row_of

HOSTILE_NAMES = [
    "bell\x07",
    "null\x00",
    "escape\x1b[2J",
    "<&>\"']]>",
    "half\ud800",
    "not a character\ufffe\uffff",
    "\u202eturned",
    "a\nb\tc\rd",
    "| `x` |",
]


def figures(**pair: Any) -> dict[str, Any]:
    pair_figures = {"win_rate": 0.6, "low": 0.55, "high": 0.65, "n": 300, **pair}
    row = {"dpo": 0.8, "delta": 0.1, "delta_low": 0.05, "delta_high": 0.15, "n": 300}
    return {
        "pairwise": {"dpo_vs_sft": pair_figures},
        "table": {"match": row},
        "prompts": 300,
        "leaks": 0,
        "missing": 0.0,
    }


def status(criterion: dict[str, Any], measured: dict[str, Any], min_prompts: int = 50) -> tuple[str, str]:
    result = judge_criterion(Criterion.model_validate(criterion), measured, DPO_OVER_SFT, min_prompts=min_prompts)
    return result.status, result.reason


LOW = {"figure": "pairwise.dpo_vs_sft.low", "above": 0.5}


def test_a_bound_that_holds_passes() -> None:
    assert status(LOW, figures())[0] == "passed"
    assert status({"figure": "table.match.dpo", "at_least": 0.8}, figures())[0] == "passed"
    assert status({"figure": "leaks", "at_most": 0}, figures())[0] == "passed"


def test_a_bound_that_does_not_hold_fails() -> None:
    assert status({"figure": "table.match.dpo", "at_least": 0.999}, figures())[0] == "failed"
    assert status(LOW, figures(win_rate=0.45, low=0.4, high=0.5))[0] == "failed"


def test_an_estimate_above_the_bound_with_an_interval_across_it_needs_more_prompts() -> None:
    outcome, reason = status(LOW, figures(win_rate=0.53, low=0.48, high=0.58))
    assert outcome == "insufficient"
    assert "prompts would show it" in reason


def test_few_prompts_are_never_enough() -> None:
    assert status(LOW, {**figures(), "prompts": 12})[0] == "insufficient"


def test_few_verdicts_are_not_enough_however_many_prompts_there_are() -> None:
    outcome, reason = status(LOW, figures(n=30))
    assert outcome == "insufficient"
    assert "30 of 300 eval prompts, at least 50 are needed" in reason
    assert status(LOW, {**figures(n=30), "prompts": 30}, min_prompts=20)[0] == "passed"


def test_what_would_be_enough_is_told_in_prompts_not_in_verdicts() -> None:
    """A third of the prompts gave a verdict: three times as many prompts are needed as verdicts."""
    across = {"win_rate": 0.53, "low": 0.48, "high": 0.58}
    refused = []
    for n, prompts in ((300, 300), (300, 900)):
        reason = status(LOW, {**figures(n=n, **across), "prompts": prompts})[1]
        refused.append(int(re.findall(r"about (\d+) prompts", reason)[0]))
    assert refused[1] == pytest.approx(3 * refused[0], abs=3)


def test_an_undefined_figure_is_not_a_pass() -> None:
    assert status(LOW, figures(low=None, high=None))[0] == "insufficient"


def test_an_unknown_figure_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"pairwise\.dpo_vs_sftt.*dpo_vs_sft"):
        status({"figure": "pairwise.dpo_vs_sftt.low", "above": 0.5}, figures())


def test_one_failure_outweighs_all() -> None:
    assert overall(["passed", "insufficient", "failed"]) == "failed"
    assert overall(["passed", "insufficient"]) == "insufficient"
    assert overall(["passed", "passed"]) == "passed"


def test_non_inferiority_is_a_bound_on_the_lower_end() -> None:
    criterion = {"figure": "table.match", "not_worse_by": 0.02}
    row = {"dpo": 0.8, "delta": -0.001, "delta_low": -0.015, "delta_high": 0.013, "n": 300}
    measured = {**figures(), "table": {"match": row}}
    assert status(criterion, measured)[0] == "passed"
    assert status(criterion, {**measured, "table": {"match": {**row, "delta_low": -0.03}}})[0] == "insufficient"
    assert status(criterion, {**measured, "table": {"match": {**row, "delta": -0.1, "delta_low": -0.2}}})[0] == "failed"
    pair = {"figure": "pairwise.dpo_vs_sft", "not_worse_by": 0.05}
    assert status(pair, figures(win_rate=0.5, low=0.46, high=0.54))[0] == "passed"
    assert status(pair, figures(win_rate=0.4, low=0.35, high=0.44))[0] == "failed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"figure": "leaks", "not_worse_by": 0.1},
        {"figure": "table.match.delta_low", "not_worse_by": 0.1},
        {"figure": "table.match", "not_worse_by": 0.1, "above": 0},
        {"figure": "table.match", "not_worse_by": 0},
        {"figure": "table.match"},
    ],
)
def test_a_criterion_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Criterion.model_validate(wrong)


def comparison(sft: tuple[float, float] | None, dpo: tuple[float, float]) -> EvalResult:
    """Win rates (low, high) of SFT over the base and of DPO over SFT, and one metric that DPO harms."""
    row = row_of(
        difference_of("format", DPO_OVER_SFT, -0.3, -0.1),
        difference_of("format", SFT_OVER_BASE, 0.1, 0.3),
        base=0.5,
        sft=0.7,
        dpo=0.5,
    )
    pairwise = [pair_of(DPO_OVER_SFT, *dpo)] + ([] if sft is None else [pair_of(SFT_OVER_BASE, *sft)])
    return eval_result((row,), tuple(pairwise), answers_of(base=0.0, sft=0.1, dpo=0.2))


def candidates(
    criteria: list[dict[str, Any]], data: dict[str, int] | None = None, **intervals: Any
) -> dict[Candidate, CandidateResult]:
    section = GateSection.model_validate({"criteria": criteria} if criteria else {})
    chosen = section.criteria or default_criteria(["dpo_vs_sft"])
    pairs: dict[Candidate, ModelPair] = {"dpo": DPO_OVER_SFT, "sft": SFT_OVER_BASE}
    figures = {
        name: figure_tree(
            comparison(**intervals),
            pair,
            leaks=0,
            data={"failed": 0} if data is None else data,
            data_check={},
            arms={},
            training={"dpo": {"kl": 3.0}},
            drift={},
        )
        for name, pair in pairs.items()
    }
    return {
        name: judge_candidate(chosen, figures[name], pair, min_prompts=section.min_prompts)
        for name, pair in pairs.items()
    }


def test_the_gate_can_say_release_sft_and_drop_dpo() -> None:
    record = candidates([], sft=(0.6, 0.7), dpo=(0.3, 0.4))
    statuses = {name: candidate.status for name, candidate in record.items()}
    assert statuses == {"dpo": "failed", "sft": "passed"}
    assert advice(statuses) == "release sft, drop dpo"


def test_a_metric_that_is_credibly_worse_fails_by_default() -> None:
    record = candidates([], sft=(0.6, 0.7), dpo=(0.6, 0.7))
    assert record["dpo"].status == "failed"
    assert [c.figure for c in record["dpo"].criteria if c.status == "failed"] == ["metrics_worse"]


def test_what_speaks_of_dpos_training_does_not_concern_sft() -> None:
    criteria = [{"figure": "training.dpo.kl", "at_most": 1}, {"figure": "verdicts", "at_least": 0.98}]
    record = candidates(criteria, sft=(0.6, 0.7), dpo=(0.6, 0.7))
    assert record["dpo"].status == "failed"
    assert [c.figure for c in record["sft"].criteria] == ["verdicts"]
    assert record["sft"].status == "passed"


def test_data_checks_and_a_sft_that_was_not_compared() -> None:
    criteria = [{"figure": "data.failed", "at_most": 0}, {"figure": "pairwise.dpo_vs_sft.low", "above": 0.5}]
    faults = pair_faults([preference("a", "x", "x"), preference("b", "y", "z")], [preference("b", "z", "y")])
    assert faults == {
        "equal_answers": 1,
        "empty_chosen": 0,
        "contradicted": 2,
        "train_in_validation": 1,
        "failed": 4,
    }
    record = candidates(criteria, data=faults, sft=None, dpo=(0.6, 0.7))
    assert [c.status for c in record["dpo"].criteria] == ["failed", "passed"]
    assert [c.status for c in record["sft"].criteria] == ["failed", "insufficient"]


def preference(prompt: str, chosen: str, rejected: str) -> Preference:
    return Preference(Prompt.of(prompt), chosen, rejected)


@pytest.mark.parametrize(
    ("dpo", "sft", "expected"),
    [
        ("passed", "failed", "release dpo"),
        ("insufficient", "passed", "release sft; dpo needs more evidence"),
        ("insufficient", "insufficient", "release nothing yet; dpo and sft need more evidence"),
        ("failed", "failed", "release nothing"),
    ],
)
def test_the_advice_follows_from_the_statuses(dpo: Any, sft: Any, expected: str) -> None:
    assert advice({"dpo": dpo, "sft": sft}) == expected


def test_the_record_names_what_it_judged(project: Project) -> None:
    record = read_json(project.artifact("gate").file("gate.json"))
    dpo = project.artifact("dpo")
    assert record["adapter"]["model/adapter_model.safetensors"] == hash_file(
        dpo.file("model/adapter_model.safetensors")
    )
    assert record["eval_prompts"] == hash_file(project.artifact("prepare").file("eval.jsonl"))
    assert record["judge"].startswith("rubric:")
    assert record["template"] == hash_file(dpo.file("model/chat_template.jinja"))
    assert record["judged"]["dpo"] == dpo.hash
    assert record["versions"]["torch"]
    assert len(record["config_hash"]) == 16


def test_junit_and_markdown_say_what_the_record_says(project: Project) -> None:
    gate = project.artifact("gate")
    root = ElementTree.fromstring(gate.file("gate.xml").read_text())
    assert [suite.get("name") for suite in root] == ["dpo", "sft"]
    assert [(suite.get("failures"), suite.get("errors")) for suite in root] == [("0", "0"), ("0", "0")]
    assert "# Gate: passed" in gate.file("gate.md").read_text()


def test_junit_marks_failures_and_short_evidence() -> None:
    statuses: tuple[Status, ...] = ("passed", "failed", "insufficient")
    cases = tuple(CriterionResult(figure=f"f<{state}>", value=1.0, above=2.0, status=state) for state in statuses)
    result = CandidateResult(status="failed", criteria=cases)
    dpo, sft = ElementTree.fromstring(junit({"dpo": result, "sft": result}))
    assert [dpo.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["3", "1", "1", "0"]
    assert [sft.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["3", "0", "0", "2"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_junit_is_xml_whatever_a_metric_is_called(name: str) -> None:
    figure = f"table.{name}.dpo"
    case = CriterionResult(figure=figure, value=1.0, above=2.0, status="insufficient", reason=f"see {name}")
    root = ElementTree.fromstring(junit({"dpo": CandidateResult(status="failed", criteria=(case,))}).encode())
    [[written]] = root
    assert written.get("name") == f"{one_line(figure)} above 2"
    assert written[0].get("message") == one_line(f"see {name}")
    assert printable(str(written.get("name"))) == written.get("name")


def test_a_candidate_that_no_criterion_concerns_has_not_passed() -> None:
    record = candidates([{"figure": "training.dpo.kl", "at_most": 10}], sft=(0.6, 0.7), dpo=(0.6, 0.7))
    assert (record["dpo"].status, record["sft"].status) == ("passed", "insufficient")
    assert overall([]) == "insufficient"


def test_a_criterion_may_name_answers_and_warnings_that_were_not_given() -> None:
    criteria = [{"figure": "answers.dpo.cut", "at_most": 0.15}, {"figure": "warnings.length", "at_most": 0}]
    record = candidates(criteria, sft=(0.6, 0.7), dpo=(0.6, 0.7))
    assert [c.status for c in record["dpo"].criteria] == ["failed", "passed"]
    assert [c.value for c in record["sft"].criteria] == [0.1, 0]


def test_without_a_judged_pair_dpo_must_be_better_on_a_metric() -> None:
    assert default_criteria([])[0] == Criterion(figure="metrics_better", at_least=1)
    assert default_criteria(["dpo_vs_base"])[0] == Criterion(figure="pairwise.dpo_vs_base.low", above=0.5)
    assert Criterion(figure="missing", below=0.02) in default_criteria([]), "under 2 %, not 2 %"


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("table.lenght.dpo", r"table: did you mean length\?"),
        ("pairwise.sft_vs_dpo.low", r"pairwise: did you mean sft_vs_base\?"),
        ("table.judge_score.dpo", "length"),
    ],
)
def test_a_figure_that_eval_does_not_measure_is_refused_when_the_config_is_read(figure: str, message: str) -> None:
    config = tiny_config()
    config["gate"]["criteria"] = [{"figure": figure, "at_least": 0.5}]
    with pytest.raises(ConfigError, match=rf"gate\.criteria names {figure}.*{message}"):
        parse_config(config)


def test_the_default_gate_works_without_sft_and_without_pairs() -> None:
    config = {**tiny_config(), "gate": {}, "sft": None}
    config["data"] = {"prompts": "prompts.jsonl", "eval": "eval.jsonl"}
    config["eval"]["pairwise"] = ["dpo_vs_base"]
    assert parse_config(config).gate_criteria[0].figure == "pairwise.dpo_vs_base.low"
    config["eval"]["pairwise"] = []
    assert parse_config(config).gate_criteria[0].figure == "metrics_better"


def test_the_gate_reads_the_checks_of_the_pairs(project: Project) -> None:
    config = tiny_config()
    config["gate"]["criteria"] = [{"figure": "data_check.failed", "at_most": 0}]
    write_config(project.folder, config)
    record = read_json(Project(project.folder).run("gate")["gate"].file("gate.json"))
    [criterion] = record["criteria"]
    assert (criterion["value"], record["status"]) == (1, "failed"), "one check is waived, and failed all the same"
    assert "data_check" in record["judged"]


def test_a_template_in_the_tokenizers_config_is_hashed_too(project: Project, tmp_path: Path) -> None:
    artifact = project.artifact("dpo")
    whole = template_hash(artifact.file("model"), artifact.manifest)
    path = tmp_path / "moved"
    shutil.copytree(artifact.path, path)
    text = (path / "model" / "chat_template.jinja").read_text()
    config = read_json(path / "model" / "tokenizer_config.json")
    write_json(path / "model" / "tokenizer_config.json", {**config, "chat_template": text})
    files = {name: digest for name, digest in artifact.manifest.files.items() if "jinja" not in name}
    manifest = artifact.manifest.model_copy(update={"files": files})
    assert template_hash(path / "model", manifest) == whole == hashlib.sha256(text.encode()).hexdigest()


def test_the_gate_does_not_judge_bytes_that_have_changed(project: Project) -> None:
    flip(project.artifact("answers").file("answers.jsonl"), 40)
    with pytest.raises(ArtifactError, match=r"answers\.jsonl has changed since the manifest was written"):
        project.run("gate", force=["gate"])
    with pytest.raises(ArtifactError, match=r"answers: answers\.jsonl has changed since the manifest"):
        verify_judged(project)


@pytest.mark.parametrize(
    ("figure", "of_sft"),
    [
        ("pairwise.dpo_vs_sft.low", "pairwise.sft_vs_base.low"),
        ("pairwise.dpo_vs_base.win_rate", "pairwise.sft_vs_base.win_rate"),
        ("pairwise.sft_vs_base.low", "pairwise.sft_vs_base.low"),
        ("table.format.dpo", "table.format.sft"),
        ("table.format.dpo_low", "table.format.sft_low"),
        ("table.format.sft_high", "table.format.base_high"),
        ("table.format.base", "table.format.base"),
        ("table.format.delta_low", "table.format.sft_over_base.delta_low"),
        ("table.format", "table.format.sft_over_base"),
        ("table.format.sft_over_base.delta", "table.format.sft_over_base.delta"),
        ("answers.dpo.cut", "answers.sft.cut"),
        ("answers.sft.cut", "answers.base.cut"),
        ("metrics_worse", "metrics_worse"),
        ("leaks", "leaks"),
    ],
)
def test_a_criterion_names_the_figure_that_it_is_judged_by(figure: str, of_sft: str) -> None:
    assert path_for(figure, SFT_OVER_BASE) == of_sft
    assert path_for(figure, DPO_OVER_SFT) == path_for(figure, DPO_OVER_BASE) == figure


def test_the_record_of_sft_shows_the_figures_of_sft_under_their_own_names(project: Project) -> None:
    """Every value in the record is the one that stands under its name in the report."""
    config = tiny_config()
    config["gate"]["criteria"] = [
        {"figure": "pairwise.dpo_vs_sft.low", "above": 0.5},
        {"figure": "pairwise.dpo_vs_sft", "not_worse_by": 0.1},
        {"figure": "table.length.dpo", "at_least": 0.5},
        {"figure": "table.length", "not_worse_by": 0.1},
        {"figure": "answers.dpo.cut", "at_most": 0.5},
    ]
    write_config(project.folder, config)
    made = Project(project.folder).run("report")
    record = GateRecord.read(made["gate"].file("gate.json"))
    report = read_json(made["report"].file("report.json"))
    figures = {**report, "table": {row["metric"]: row for row in report["table"]}}
    assert [criterion.figure for criterion in record.candidates["sft"].criteria] == [
        "pairwise.sft_vs_base.low",
        "pairwise.sft_vs_base",
        "table.length.sft",
        "table.length.sft_over_base",
        "answers.sft.cut",
    ]
    for candidate in record.candidates.values():
        for criterion in candidate.criteria:
            end = ".low" if criterion.figure.startswith("pairwise.") else ".delta_low"
            path = criterion.figure + ("" if criterion.not_worse_by is None else end)
            assert look_up(path, figures)[0] == criterion.value


def test_the_record_is_read_as_it_was_written(project: Project) -> None:
    path = project.artifact("gate").file("gate.json")
    assert GateRecord.read(path).model_dump(mode="json") == read_json(path)
    assert "below" not in read_json(path)["criteria"][0], "only what was demanded"


def test_a_program_that_ends_itself_before_the_gate_has_judged_has_not_passed(project: Project) -> None:
    (project.folder / "own.py").write_text("import sys\n\n\ndef score(answer, gold):\n    sys.exit(0)\n")
    config = tiny_config()
    config["eval"]["metrics"] = [{"kind": "function", "name": "own", "function": "own.py:score"}]
    config["gate"]["criteria"] = [{"figure": "table.own.dpo", "at_least": 0.5}]
    write_config(project.folder, config)
    result = fairlead("gate", str(project.folder))
    assert result.returncode not in (0, 1, 2)
    assert result.stderr.strip().splitlines()[-1].startswith("fairlead: ")
