"""A whole run whose judge is an endpoint: paid once, resumed, and stopped with one line where it cannot go on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead import Project
from fairlead.errors import DataError, JudgeError
from fairlead.files import read_json, read_jsonl
from fairlead.pipeline.graph import JUDGE
from fairlead.pipeline.status import StageStatus, unanswered
from tests.support.commands import fairlead
from tests.support.misbehaving import JudgeServer, Messages
from tests.support.projects import tiny_config, write_config

KEY = "sk-test-very-secret-key"


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.llm.retry._FIRST_WAIT_S", 0.02)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.delenv("FAIRLEAD_LEDGER", raising=False)


@pytest.fixture
def tiny_project(project: Project) -> Path:
    """The finished project, so that no test has to train anew what it does not change."""
    return project.folder


def shorter(messages: Messages) -> str:
    """Judges whatever the order: the shorter answer is better, equal ones are a tie."""
    asked = next(m["content"] for m in messages if m["role"] == "user")
    answers = re.findall(r"BEGIN ANSWER ([AB]) \w+\n(.*?)\nEND ANSWER", asked, re.DOTALL)
    if not answers:
        return '{"reason": "as it is", "score": 7}'
    (a, first), (b, second) = ((name, len(text)) for name, text in answers)
    return f'{{"reason": "length", "verdict": "{"tie" if first == second else a if first < second else b}"}}'


def configure(folder: Path, server: JudgeServer, **judge: Any) -> None:
    config = tiny_config()
    config["judge"] = {
        "kind": "openai", "model": "m", "base_url": server.base_url, "api_key_env": "JUDGE_KEY", "timeout_s": 5.0,
        **judge,
    }  # fmt: skip
    config["eval"] = {"pairwise": ["dpo_vs_sft", "sft_vs_base"], "scores": True}
    write_config(folder, config)


def test_a_run_asks_in_both_orders_and_pays_once(tiny_project: Path) -> None:
    with JudgeServer(brain=shorter, key=KEY) as server:
        configure(tiny_project, server)
        made = Project(tiny_project).run()
        verdicts = [row for _, row in read_jsonl(made["judge"].file("verdicts.jsonl"))]
        assert all(len(row["calls"]) == 2 for row in verdicts), "one call for each order"
        assert {row["state"] for row in verdicts} <= {"win", "loss", "tie"}
        assert server.stats.repeated == 0
        paid = server.stats.paid
        report = read_json(tiny_project / "report" / "report.json")
        assert {row["metric"] for row in report["table"]} == {"judge_score"}
        assert report["pairwise"]["dpo_vs_sft"]["missing"] == 0

        asked = {stage: made[stage].manifest.figures["asked"] for stage in ("judge", "eval")}
        assert asked["judge"]["replies"] == len({call for row in verdicts for call in row["calls"]})
        assert f"{sum(usage['replies'] for usage in asked.values())} replies" in (
            tiny_project / "report" / "report.md"
        ).read_text(encoding="utf-8")

        again = Project(tiny_project).run(force=["judge", "eval"])
        assert server.stats.paid == paid, "the ledger has every reply"
        assert {stage: again[stage].manifest.figures["asked"] for stage in asked} == asked
    for path in tiny_project.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on_where_it_was(project: Project) -> None:
    with JudgeServer(brain=shorter, key=KEY) as server:
        configure(project.folder, server, max_calls=9)
        stopped = fairlead("run", str(project.folder))
        assert stopped.returncode != 0
        assert "max_calls 9" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert server.stats.paid == 9 + 1, "and the question whether anybody is there, before the first stage"
        configure(project.folder, server)
        result = fairlead("run", str(project.folder))
        assert result.returncode == 0, result.stderr
        assert server.stats.repeated == 1, "only whether anybody is there is asked twice"


@pytest.mark.parametrize(
    ("faults", "override", "message"),
    [
        pytest.param({}, (401, {}, '{"error": {"message": "' + KEY + '"}}'), "authentication failed", id="refused key"),
        pytest.param({"foreign": 1.0}, None, "none of its first 20 judgements can be read|are missing", id="nonsense"),
        pytest.param({}, (200, {}, "<html>hello</html>"), "not a chat completion", id="no endpoint"),
    ],
)
def test_an_endpoint_that_cannot_judge_is_one_line(
    tiny_project: Path, faults: dict[str, float], override: Any, message: str
) -> None:
    with JudgeServer(brain=shorter, faults=faults, override=override and (lambda body, headers: override)) as server:
        configure(tiny_project, server, max_retries=1)
        with pytest.raises(JudgeError, match=message) as raised:
            Project(tiny_project).run("judge")
    assert KEY not in str(raised.value)
    assert "\n" not in str(raised.value)
    made = {row.stage: row.state for row in Project(tiny_project).status()}
    assert made["sample"] == "done", "nothing is lost"


def test_what_an_outage_left_unanswered_is_asked_again_by_every_later_run(tiny_project: Path) -> None:
    """An outage below max_missing: the stage is done, and the next run asks for what is missing and nothing else."""
    broken = True

    def half(request: Any, headers: Any) -> tuple[int, dict[str, str], str] | None:
        return (500, {}, "down") if broken and "number 1" in str(request["messages"]) else None

    def judge_row() -> StageStatus:
        return next(row for row in Project(tiny_project).status() if row.stage == "judge")

    with JudgeServer(brain=shorter, key=KEY, override=half) as server:
        configure(tiny_project, server, max_retries=0, concurrency=1)
        config = yaml.safe_load((tiny_project / "fairlead.yaml").read_text(encoding="utf-8"))
        write_config(tiny_project, config | {"pairs": {**config.get("pairs", {}), "max_missing": 0.9}})
        made = Project(tiny_project).run("judge")
        count = made["judge"].manifest.figures["unanswered"]
        assert count == made["judge"].manifest.figures["states"]["failed"] > 0
        assert judge_row().state == "done"
        assert f"{count} request" in judge_row().why
        assert "the next run asks for" in judge_row().why
        said = fairlead("run", str(tiny_project), "--until", "judge").stderr
        assert f"asks again, {count} request" in said

        broken, paid = False, server.stats.paid
        project = Project(tiny_project)
        made = project.run("judge")
        assert project.ran == ["judge"]
        assert server.stats.paid - paid == 2 * count, "both orders of what had no reply, and nothing else"
        assert server.stats.repeated == 0
        assert made["judge"].manifest.figures["unanswered"] == 0
        assert judge_row().why == ""
        project.run("judge")
        assert project.ran == [], "nothing is missing any more"


@pytest.mark.parametrize("count", [None, [1], "x", -1, {}])
def test_a_count_that_somebody_altered_asks_for_nothing(count: Any) -> None:
    assert unanswered(JUDGE, {"unanswered": count}) == 0
    assert unanswered(JUDGE, {"unanswered": 3}) == 3


def test_an_endpoint_that_is_gone_leaves_the_verdicts_that_there_are(tiny_project: Path) -> None:
    def half(request: Any, headers: Any) -> tuple[int, dict[str, str], str] | None:
        return (500, {}, "down") if "number 1" in str(request["messages"]) else None

    with JudgeServer(brain=shorter, key=KEY, override=half) as server:
        configure(tiny_project, server, max_retries=0, concurrency=1)
        config = yaml.safe_load((tiny_project / "fairlead.yaml").read_text(encoding="utf-8"))
        write_config(tiny_project, config | {"pairs": {**config.get("pairs", {}), "max_missing": 0.9}})
        before = Project(tiny_project).run("judge")["judge"]
        assert before.manifest.figures["unanswered"] > 0
        server.override = lambda request, headers: (401, {}, "no such key")
        result = fairlead("run", str(tiny_project), "--until", "judge")
    assert result.returncode == 0, result.stderr
    assert "no reply this time either, so its results stay" in result.stderr
    assert Project(tiny_project).artifact("judge").hash == before.hash


def test_a_decision_with_missing_answers_and_scores_asks_for_them_again(tiny_project: Path) -> None:
    """The model behind the endpoint and the judge have both lost requests; the base model does not answer again."""
    broken = True

    def half(request: Any, headers: Any) -> tuple[int, dict[str, str], str] | None:
        return (500, {}, "down") if broken and re.search(r"number (8|13|18) ", str(request["messages"])) else None

    with JudgeServer(brain=shorter, key=KEY, override=half) as server:
        configure(tiny_project, server, max_retries=0, concurrency=1)
        config = yaml.safe_load((tiny_project / "fairlead.yaml").read_text(encoding="utf-8"))
        config["data"]["dev"] = "dev.jsonl"
        rows = [json.dumps({"prompt": f"dev report number {n} of the disk"}) for n in range(20)]
        (tiny_project / "dev.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
        other = {k: config["judge"][k] for k in ("kind", "model", "base_url", "api_key_env", "max_retries")}
        config["decide"] = {"targets": [{"metric": "judge_score", "at_least": 9}], "models": [other], "few_shot": None}
        config["eval"]["max_missing"] = 0.9
        write_config(tiny_project, config)
        made = Project(tiny_project).run("decide")["decide"]
        assert made.manifest.figures["unanswered"] == 6, "3 answers of the endpoint, 3 scores of the base"

        broken, paid = False, server.stats.paid
        project = Project(tiny_project)
        project.run("decide")
        assert project.ran == ["decide"]
        assert server.stats.paid - paid == 9, "what was missing, and the scores of the answers that came"
        assert server.stats.repeated == 0
        assert project.artifact("decide").manifest.figures["unanswered"] == 0


def test_pairs_on_which_the_judge_contradicts_itself_are_the_judges_fault(tiny_project: Path) -> None:
    with JudgeServer(brain=lambda messages: '{"verdict": "A"}', key=KEY) as server:
        configure(tiny_project, server)
        with pytest.raises(DataError, match=r"inconsistent.*it is the judge: it contradicts itself"):
            Project(tiny_project).run("pairs")


@pytest.mark.slow
def test_an_endpoint_that_is_down_is_one_line(tiny_project: Path) -> None:
    with JudgeServer() as server:
        pass  # its port is free again
    configure(tiny_project, server, max_retries=1)
    result = fairlead("data", "build", str(tiny_project))
    assert result.returncode != 0
    assert "cannot be reached" in result.stderr
    assert "Traceback" not in result.stderr
    assert KEY not in result.stderr
