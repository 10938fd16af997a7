"""Other models and instruction optimizers: asked with the ledger, priced, never shown the prompts that count."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead.config.decide import EmbeddingSettings
from fairlead.cost.judge_cost import estimate
from fairlead.decide.candidates import Instruction, split_dev
from fairlead.decide.instruction_optimizer import Failure, read_instruction, request
from fairlead.errors import JudgeError, ModelError
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.models.embeddings import Encoder
from fairlead.records import Example, Prompt
from tests.support.decide_projects import decide, prepared
from tests.support.judging import openai_judge, pairs
from tests.support.misbehaving import JudgeServer, Messages
from tests.support.reader import COLORS
from tests.support.triage import COLOR, FORMAT, TRIAGE, tickets, triage

KEY = "sk-test-very-secret-key"
TARGET_RULE = "Answer as severity : COLOUR"


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.llm.retry._FIRST_WAIT_S", 0.02)
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.delenv("FAIRLEAD_LEDGER", raising=False)


def knows(messages: Messages) -> str:
    """Answers tickets in the wanted form."""
    colours = re.findall(r"light is (\w+)", messages[-1]["content"])
    return f"severity : {colours[-1]}"


def obeys(messages: Messages) -> str:
    """Writes instructions, and follows those that say what is wanted."""
    text = messages[-1]["content"]
    if text.startswith("Write an instruction"):
        return f"Here: <instruction>{TARGET_RULE}, variant {text.count('FAILED')}</instruction>"
    return knows(messages) if TARGET_RULE in text else "I would have to guess"


def endpoint(server: JudgeServer, **more: Any) -> dict[str, Any]:
    return {
        "kind": "openai", "model": "big", "base_url": server.base_url, "api_key_env": "SOME_KEY", "timeout_s": 5.0,
        "max_retries": 1, **more,
    }  # fmt: skip


def section(**more: Any) -> dict[str, Any]:
    return {"targets": TRIAGE, "few_shot": None, **more}


@pytest.mark.slow
def test_a_larger_model_behind_an_endpoint_settles_it_and_is_paid_once(tmp_path: Path, reader: Path) -> None:
    artifact = triage(tmp_path, 60)
    with JudgeServer(brain=knows, key=KEY) as server:
        prices = {"price_per_million_input_tokens": 2.0, "price_per_million_output_tokens": 10.0}
        chosen = section(models=[endpoint(server, **prices)])
        decision, _ = decide(tmp_path, artifact, model=reader, section=chosen, metrics=[FORMAT, COLOR])
        assert decision["verdict"] == "prompting is enough"
        assert (decision["winner"]["model"], decision["winner"]["candidate"]) == ("big", "as given")
        usage = decision["winner"]["per_1000_answers"]
        expected = (2 * usage["input_tokens"] + 10 * usage["output_tokens"]) / 1000
        assert usage["cost"] == pytest.approx(expected)
        assert decision["candidates"][0]["per_1000_answers"]["cost"] is None, "this machine has no price"
        paid = server.stats.paid
        assert paid == 60
        decide(tmp_path, artifact, model=reader, section=chosen, metrics=[FORMAT, COLOR])
        assert server.stats.paid == paid, "the ledger has every reply"
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_answers_are_stored_without_a_verdict_and_change_no_estimate_of_a_judge(tmp_path: Path, reader: Path) -> None:
    artifact = triage(tmp_path, 12)
    with JudgeServer(brain=lambda messages: "Score: 7", key=KEY) as server, ReplyStore.of_project(tmp_path) as ledger:
        judge = openai_judge(server, ledger, tmp_path, model="big", api_key_env="SOME_KEY")
        [before] = estimate(judge, pairs(3))
        chosen = section(models=[endpoint(server)])
        decide(tmp_path, artifact, model=reader, section=chosen, metrics=[FORMAT, COLOR])
        assert {(reply.purpose, reply.verdict) for reply in ledger.replies()} == {("plain", None)}
        [totals] = ledger.totals()
        assert (totals.replies, totals.read) == (12, None)
        assert estimate(judge, pairs(3)) == [before]


def test_an_endpoint_that_gives_no_answers_stops_the_decision_in_one_line(tmp_path: Path, reader: Path) -> None:
    def refuses(body: Any, headers: Any) -> tuple[int, dict[str, str], str]:
        return 400, {}, '{"error": {"message": "too long"}}'

    with JudgeServer(override=refuses) as server, pytest.raises(JudgeError, match="too long") as raised:
        decide(
            tmp_path,
            triage(tmp_path, 12),
            model=reader,
            section=section(models=[endpoint(server)]),
            metrics=[FORMAT, COLOR],
        )
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "what", "remedy"),
    [
        (None, "does not answer: ", "check base_url, the server and the network"),
        (401, "authentication failed (401: told so)", "check the key in SOME_KEY"),
        (402, "payment required (402: told so)", "top up the account"),
        (404, "no such model or address (404: told so)", "check model and base_url"),
        (500, "does not answer: 500: told so", "check base_url, the server and the network"),
    ],
)
@pytest.mark.parametrize("role", ["model", "optimizer"])
def test_an_endpoint_that_is_down_or_refuses_is_one_line_with_what_to_do(
    tmp_path: Path, reader: Path, role: str, status: int | None, what: str, remedy: str
) -> None:
    with JudgeServer(override=lambda _body, _headers: (status or 0, {}, '{"error": {"message": "told so"}}')) as server:
        model = endpoint(server) if status is not None else endpoint(server) | {"base_url": "http://127.0.0.1:1/v1"}
        asked = {"models": [model]} if role == "model" else {"instruction_optimizer": {"model": model, "per_round": 3}}
        with pytest.raises(JudgeError) as raised:
            decide(tmp_path, triage(tmp_path, 12), model=reader, section=section(**asked), metrics=[FORMAT, COLOR])
    message = str(raised.value)
    assert message.startswith(f"{model['base_url']} (model big): {what}")
    assert remedy in message
    assert "\n" not in message


def test_an_optimizer_of_which_a_reply_is_missing_stops_the_decision(tmp_path: Path, reader: Path) -> None:
    """Else other candidates would be tried than the config says, and the decision would be kept as it is."""

    def too_long(body: Any, headers: Any) -> tuple[int, dict[str, str], str]:
        return 413, {}, '{"error": {"message": "told so"}}'

    with JudgeServer(override=too_long) as server:
        chosen = section(instruction_optimizer={"model": endpoint(server, name="writer"), "per_round": 2})
        with pytest.raises(JudgeError) as raised:
            decide(tmp_path, triage(tmp_path, 12), model=reader, section=chosen, metrics=[FORMAT, COLOR])
    assert str(raised.value) == (
        "decide.instruction_optimizer.model, writer: 2 of 2 requests got no reply, the last because 413: told so — "
        "run the same command again: the replies received are kept"
    )


def test_an_instruction_optimizer_improves_on_prompts_that_no_candidate_is_scored_on(
    tmp_path: Path, reader: Path
) -> None:
    dev = [Prompt.of(text, gold={"severity": color}) for text, color in tickets(100, 1)]
    with JudgeServer(brain=obeys, key=KEY) as server:
        seen: list[str] = []
        server.brain = lambda messages: (seen.append(messages[-1]["content"]), obeys(messages))[1]
        decision, _ = decide(
            tmp_path,
            prepared(tmp_path, dev, sft=[Example(Prompt.of("light is red"), "severity : red")]),
            model=reader,
            section=section(
                models=[endpoint(server)],
                instruction_optimizer={
                    "model": endpoint(server, name="writer"),
                    "rounds": 2,
                    "per_round": 2,
                    "failures": 3,
                },
            ),
            metrics=[FORMAT, COLOR],
        )
    assert decision["verdict"] == "prompting is enough"
    assert decision["winner"]["recipe"]["instruction"]["name"].startswith("written")
    assert decision["prompts"] + decision["tuning_prompts"] == 100
    requests = [text for text in seen if text.startswith("Write an instruction")]
    assert 1 <= len(requests) <= 4, "the budget is rounds × per_round"
    assert all("FAILED" in text for text in requests)
    prompts_sent = {p.text for p in dev if any(p.text in text for text in requests)}
    scored, tuning = split_dev(dev, optimizing=True)
    assert prompts_sent <= {p.text for p in tuning}
    assert not prompts_sent & {p.text for p in scored}


def test_the_reply_of_an_optimizer_is_an_instruction_only_between_its_tags() -> None:
    assert read_instruction("Sure!\n<instruction>\n do this \n</instruction> done") == "do this"
    assert read_instruction("do this") is None
    assert read_instruction("<instruction>  </instruction>") is None
    assert read_instruction(f"<instruction>{'x' * 5000}</instruction>") is None


def test_an_optimizer_sees_the_gold_and_what_failed() -> None:
    failure = Failure(Prompt.of("light is red", gold={"severity": "red"}), "blue?", ("color",))
    [turn] = request(Instruction("instruction 1", "be brief"), [failure], [], 1).messages
    for part in ("be brief", "blue?", json.dumps({"severity": "red"}), "FAILED color"):
        assert part in turn.content


def test_embeddings_have_length_one_and_do_not_depend_on_their_batch(reader: Path) -> None:
    encoder = Encoder(EmbeddingSettings(model=str(reader), batch_size=2, query_prefix="key of "), reader)
    texts = [f"light is {color}" for color in COLORS[:5]]
    together = encoder(texts, False)
    alone = Encoder(EmbeddingSettings(model=str(reader)), reader)([texts[3]], False)[0]
    assert np.allclose(np.linalg.norm(together, axis=1), 1)
    assert np.allclose(together[3], alone, atol=1e-5)
    assert not np.allclose(encoder([texts[0]], True)[0], together[0]), "a query has its own prefix"
    with pytest.raises(ModelError, match=r"no such model folder|cannot be loaded"):
        Encoder(EmbeddingSettings(model="./absent"), reader)


def test_embeddings_choose_examples_and_passages(tmp_path: Path, reader: Path) -> None:
    artifact = triage(tmp_path, 6)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.md").write_text("# Lights\n\nred is bad", encoding="utf-8")
    decision, _ = decide(
        tmp_path,
        artifact,
        model=reader,
        section={
            "targets": TRIAGE,
            "few_shot": {"ks": [2], "selection": ["nearest"]},
            "embedding": {"model": str(reader)},
            "retrieval": {"documents": "documents", "ks": [1], "search": ["bm25", "embeddings", "both"]},
        },
        metrics=[FORMAT, COLOR],
    )
    names = [c["candidate"] for c in decision["candidates"]]
    assert names[:6] == [
        "as given",
        "2 nearest examples",
        "2 nearest (embedding) examples",
        "1 passage by bm25",
        "1 passage by embeddings",
        "1 passage by both",
    ]
    assert decision["candidates"][6]["family"] == "few-shot + retrieval"
