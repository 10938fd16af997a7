"""Scores without a project: of answers that exist, of functions, and of models on this machine."""

from __future__ import annotations

import asyncio
import builtins
import importlib.util
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import fairlead
from fairlead.config.judges import OpenAISettings
from fairlead.errors import BudgetError, FairleadError, JudgeError
from fairlead.files import read_jsonl
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.progress import Task
from fairlead.records import Prompt, ScoreState
from tests.support.judging import says
from tests.support.misbehaving import JudgeServer

ROWS = [{"prompt": f"question {n}", "answer": f"quality={n} answer"} for n in (3, 5, 7, 9)]


def scored(rows: Any, judge: Any, folder: Path, **options: Any) -> fairlead.JudgedAnswers:
    return fairlead.score_answers(rows, judge, folder=folder, progress=False, **options)


def test_scores_come_in_the_order_of_the_rows_with_their_mean_and_interval(judge: str, tmp_path: Path) -> None:
    result = scored(ROWS, judge, tmp_path)
    assert result.scores == [3.0, 5.0, 7.0, 9.0]
    assert (result.mean, result.missing, result.interval.n) == (6.0, 0, 4)
    assert result.interval.low is not None
    assert result.interval.low < 6.0


def test_nothing_is_paid_for_twice(judge: str, tmp_path: Path, server: JudgeServer) -> None:
    first = scored(ROWS, judge, tmp_path)
    assert scored(ROWS, judge, tmp_path) == first
    assert server.stats.paid == 4
    with ReplyStore.of_project(tmp_path) as store:
        assert {reply.key for reply in store.replies()} == {call for a in first.answers for call in a.calls}


def test_a_missing_score_is_no_number(tmp_path: Path) -> None:
    def override(body: Any, headers: Any) -> tuple[int, dict[str, str], str] | None:
        return (400, {}, '{"error": {"message": "bad"}}') if "question 5" in str(body) else None

    with JudgeServer(override=override) as server:
        judge = {"kind": "openai", "model": "m", "base_url": server.base_url, "api_key_env": None}
        result = scored([*ROWS, {"prompt": "q", "answer": None}], judge, tmp_path, max_missing=0.5)
        words = r"25\.0% of 4 judgements are missing \(1 failed; the first: .*bad.*more than max_missing 10\.0%"
        with pytest.raises(JudgeError, match=words):
            scored(ROWS, judge, tmp_path)
    assert result.scores == [3.0, None, 7.0, 9.0, None]
    assert result.missing == 2
    assert result.mean == pytest.approx(19 / 3)
    assert result.interval.n == 3
    assert [answer.state for answer in result.answers][-1] is ScoreState.FAILED
    assert result.answers[-1].reason == "there is no answer"


def test_a_spent_budget_stops_the_call_and_the_next_one_goes_on(tmp_path: Path, server: JudgeServer) -> None:
    judge = {"kind": "openai", "model": "m", "base_url": server.base_url, "api_key_env": None, "max_calls": 5}
    criteria = ["helpfulness", "clarity"]
    with pytest.raises(BudgetError, match="max_calls 5 is reached"):
        scored(ROWS, judge, tmp_path, criteria=criteria)
    assert server.stats.paid == 5, "one budget for all criteria"
    assert scored(ROWS, judge, tmp_path, criteria=criteria)["clarity"].missing == 0
    assert server.stats.paid == 8


def test_every_criterion_is_asked_by_itself_and_has_its_own_figures(tmp_path: Path) -> None:
    def brain(messages: Any) -> str:
        system = messages[0]["content"]
        return json.dumps({"score": 2 if "warm and brief" in system else 9 if "helpfulness" in system else 5})

    with JudgeServer(brain=brain) as server:
        criteria = ["helpfulness", {"name": "tone", "text": "warm and brief"}]
        result = scored(ROWS, f"openai:m@{server.base_url}", tmp_path, criteria=criteria)
        same = scored(ROWS, f"openai:m@{server.base_url}", tmp_path, criteria={"helpfulness": None})
    assert (result["helpfulness"].mean, result["tone"].mean, same.mean) == (9.0, 2.0, 9.0)
    assert server.stats.paid == 8
    with pytest.raises(FairleadError, match=r"several criteria — name one: result\['helpfulness'\]\.mean"):
        _ = result.mean
    with pytest.raises(FairleadError, match="no scores of 'tona' — did you mean tone"):
        _ = result["tona"]


@pytest.mark.parametrize("name", ["source", "context", "contexts", "retrieved_contexts"])
def test_faithfulness_shows_the_judge_the_source_of_the_row(
    judge: str, server: JudgeServer, tmp_path: Path, name: str
) -> None:
    source: Any = "The sky is green." if name in ("source", "context") else ["The sky", "is green."]
    row = {"question": "What colour?", "answer": "quality=8 green", name: source}
    assert scored([row], judge, tmp_path, criteria=["faithfulness"]).mean == 8.0
    with ReplyStore.of_project(tmp_path) as store:
        [reply] = store.replies()
    system, user = json.loads(reply.request)["body"]["messages"]
    assert "supported by the source" in system["content"]
    shown = user["content"].split("BEGIN SOURCE")[1].split("END SOURCE")[0]
    assert shown.split("\n", 1)[1].strip() == (source if isinstance(source, str) else "The sky\n\nis green.")


def test_a_row_without_its_source_is_named_before_anything_is_asked(
    judge: str, server: JudgeServer, tmp_path: Path
) -> None:
    with pytest.raises(FairleadError, match=r"rows: row 1: has no source text.*retrieved_contexts"):
        scored(ROWS, judge, tmp_path, criteria=["faithfulness"])
    assert server.stats.requests == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"rows: is empty"),
        ("one text", r"rows: is one text or row, and several are expected"),
        ([{"prompt": "q"}], r"rows: row 1: no field 'answer'"),
        ([ROWS[0], {"prompt": "q", "answer": 3}], r"rows: row 2: field 'answer'"),
        ([ROWS[0], "text"], r"rows: row 2: is of type str, a row is expected"),
        ([{"prompt": "", "answer": "a"}], r"rows: row 1: empty prompt"),
    ],
)
def test_what_is_no_answer_is_named(judge: str, tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(FairleadError, match=message):
        scored(rows, judge, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judge": "gpt-4.1"}, r"^judge: is no judge: write openai:MODEL"),
        ({"criteria": ["helpful"]}, r"criteria\.0: is not a built-in criterion, did you mean helpfulness"),
        ({"criteria": ["clarity", "clarity"]}, r"criteria: has two criteria named clarity"),
        ({"judge": {"kind": "rubric", "checks": []}}, r"judge\.checks"),
    ],
)
def test_wrong_arguments_are_named(judge: str, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FairleadError, match=message):
        fairlead.score_answers(ROWS, folder=tmp_path, progress=False, **{"judge": judge, **options})


def test_a_rubric_scores_for_free_and_refuses_criteria(tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_text("- {kind: length, name: short, max_chars: 3}\n", encoding="utf-8")
    rows = [{"prompt": "q", "answer": "ab"}, {"prompt": "q2", "answer": "abcdef"}]
    assert scored(rows, "rubric:checks.yaml", tmp_path).scores == [10.0, 1.0]
    with pytest.raises(FairleadError, match="cannot judge by the criterion clarity: it is not a language model"):
        scored(rows, "rubric:checks.yaml", tmp_path, criteria=["clarity"])


# --- results -----------------------------------------------------------------------------------------------------


def test_results_show_what_models_wrote_without_running_it(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\x1b]0;title\x07"
    with JudgeServer(brain=says(json.dumps({"reason": evil, "score": 4}))) as server:
        result = scored([{"prompt": evil, "answer": evil}], f"openai:m@{server.base_url}", tmp_path)
    for text in (result._repr_html_(), result.rows()._repr_html_(), repr(result), repr(result.rows())):
        assert "\x1b" not in text
    assert "<script>" not in result.rows()._repr_html_()
    assert "&lt;script&gt;" in result.rows()._repr_html_()
    assert "judge_score: 4.00" in repr(result)
    assert result.table().columns == ("criterion", "mean", "low", "high", "n", "missing")


def test_without_pandas_one_line_says_so_and_with_it_rows_are_a_frame(
    judge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = scored(ROWS, judge, tmp_path)
    if importlib.util.find_spec("pandas") is not None:
        frame = result.to_pandas()
        assert list(frame["score"]) == [3.0, 5.0, 7.0, 9.0]
        assert scored(frame[["prompt", "answer"]], judge, tmp_path).scores == result.scores
        frame.loc[0, "answer"] = float("nan")
        assert scored(frame[["prompt", "answer"]], judge, tmp_path).scores == [None, 5.0, 7.0, 9.0]
    real = builtins.__import__

    def without_pandas(name: str, *rest: Any) -> Any:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(FairleadError, match=r"to_pandas\(\): pandas is not installed — pip install pandas"):
        result.to_pandas()


def test_answers_are_written_with_their_scores(judge: str, tmp_path: Path) -> None:
    scored(ROWS, judge, tmp_path, criteria=["helpfulness"]).write(tmp_path / "scored.jsonl")
    rows = [row for _, row in read_jsonl(tmp_path / "scored.jsonl")]
    assert [row["scores"]["helpfulness"] for row in rows] == [3.0, 5.0, 7.0, 9.0]
    assert rows[0]["prompt"] == [{"role": "user", "content": "question 3"}]
    assert scored(tmp_path / "scored.jsonl", judge, tmp_path).scores == [3.0, 5.0, 7.0, 9.0]


# --- who answers -------------------------------------------------------------------------------------------------


def evaluated(model: Any, judge: Any, folder: Path, **options: Any) -> fairlead.JudgedAnswers:
    options = {"prompts": ["question 1", "question 2"], **options}
    return fairlead.evaluate_alignment(model, judge=judge, folder=folder, progress=False, **options)


def test_a_function_answers(judge: str, tmp_path: Path) -> None:
    asked: list[Any] = []

    def model(prompt: Any) -> str | None:
        asked.append(prompt)
        return "quality=8" if len(asked) == 1 else None

    result = evaluated(model, judge, tmp_path, system="Be brief.")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "question 1"}]
    assert asked[0] == turns
    assert (result.scores, result.missing) == ([8.0, None], 1)
    evaluated(model, judge, tmp_path)
    assert asked[2] == "question 1"


def test_an_async_function_answers_several_prompts_at_once(judge: str, tmp_path: Path) -> None:
    prompts = [f"question {n}" for n in range(6)]
    waiting: list[str] = []
    together = asyncio.Event()

    async def model(prompt: str) -> str:
        waiting.append(prompt)
        if len(waiting) == len(prompts):
            together.set()
        await asyncio.wait_for(together.wait(), 10)
        return f"quality={prompt[-1]}"

    assert evaluated(model, judge, tmp_path, prompts=prompts).scores == [1.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (3, "model: is of type int — give a transformers model with its tokenizer"),
        (lambda prompt: 3, "returned 3 for the prompt 'question 1' — return the answer as text"),
        ("no/such/model", "no such model folder"),
    ],
)
def test_what_cannot_answer_is_named(judge: str, tmp_path: Path, model: Any, message: str) -> None:
    with pytest.raises(FairleadError, match=message):
        evaluated(model, judge, tmp_path)


def test_a_model_by_object_by_path_and_as_an_adapter(judge: str, tmp_path: Path, tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"max_new_tokens": 4}
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model).train()
    by_path = evaluated(tiny_model, judge, tmp_path, **options)
    assert texts(evaluated(model, judge, tmp_path, tokenizer=tokenizer, **options).answers) == texts(by_path.answers)
    assert texts(evaluated(model, judge, tmp_path, **options).answers) == texts(by_path.answers)
    assert model.training, "a model in training goes on training"
    assert tokenizer.chat_template is None, "the caller's tokenizer stays as it was"
    adapter = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    of_object = evaluated(adapter, judge, tmp_path, tokenizer=tokenizer, **options)
    assert texts(of_object.answers) == texts(by_path.answers), "a new adapter changes nothing"
    adapter.save_pretrained(tmp_path / "adapter")
    assert texts(evaluated(tmp_path / "adapter", judge, tmp_path, **options).answers) == texts(by_path.answers)
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text(encoding="utf-8").replace(str(tiny_model), "./moved"), encoding="utf-8")
    with pytest.raises(FairleadError, match=r"that the adapter names cannot be used: .*moved.*give that model"):
        evaluated(tmp_path / "adapter", judge, tmp_path, **options)


def texts(answers: Sequence[Any]) -> list[str | None]:
    return [answer.answer for answer in answers]


def test_a_judge_that_cannot_be_told_a_criterion_is_refused_before_the_model_answers(tmp_path: Path) -> None:
    asked: list[str] = []
    judge: Any = {"kind": "rubric", "checks": [{"kind": "length", "name": "short", "max_chars": 3}]}
    with pytest.raises(FairleadError, match="cannot judge by the criterion clarity"):
        evaluated(asked.append, judge, tmp_path, criteria=["clarity"])
    assert asked == []


def test_a_key_that_is_not_there_is_named_before_the_model_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    asked: list[str] = []
    with pytest.raises(JudgeError, match="environment variable OPENAI_API_KEY is not set"):
        evaluated(asked.append, "openai:gpt-4.1", tmp_path)
    assert asked == []


def test_settings_of_a_judge_are_taken_as_they_are(server: JudgeServer, tmp_path: Path) -> None:
    settings = OpenAISettings(kind="openai", model="m", base_url=server.base_url, api_key_env=None)
    assert evaluated(lambda prompt: "quality=4", settings, tmp_path).mean == 4.0


def test_a_tokenizer_in_the_wrong_place_is_named(judge: str, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(FairleadError, match="tokenizer: is of type list — pass the other arguments by name"):
        fairlead.evaluate_alignment(tiny_model, ["q"], judge=judge, prompts=["q"], folder=tmp_path, progress=False)


# --- event loops -------------------------------------------------------------------------------------------------


def test_both_forms_work_on_a_running_event_loop(judge: str, tmp_path: Path) -> None:
    async def in_a_notebook() -> tuple[fairlead.JudgedAnswers, fairlead.JudgedAnswers]:
        blocking = scored(ROWS, judge, tmp_path)
        return blocking, await fairlead.score_answers_async(ROWS, judge, folder=tmp_path, progress=False)

    blocking, awaited = asyncio.run(in_a_notebook())
    assert blocking == awaited


class Paused:
    """A progress that stops the work at its first step until it may go on."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def line(self, text: str) -> None:
        pass

    @contextmanager
    def task(self, stage: str, what: str, total: int) -> Iterator[Task]:
        yield self

    def update(self, done: int, *, total: int | None = None) -> None:
        self.steps.append(done)
        self.begun.set()
        self.may_go_on.wait(30)


def test_a_cancelled_call_ends_and_keeps_what_was_paid_for(judge: str, server: JudgeServer, tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n}", "answer": "quality=5"} for n in range(40)]
    paused = Paused()

    async def cancelled() -> None:
        work = asyncio.create_task(fairlead.score_answers_async(rows, judge, folder=tmp_path, progress=paused))
        await asyncio.to_thread(paused.begun.wait, 30)
        work.cancel()
        await asyncio.sleep(0)  # the coroutine learns of it
        paused.may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(cancelled())
    assert paused.steps == [1]
    with ReplyStore.of_project(tmp_path) as store:
        assert len(store.replies()) == server.stats.paid >= 1


def test_prompts_of_several_forms(judge: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "from a file"}\n', encoding="utf-8")
    turns = [{"role": "user", "content": "turns"}]
    given = ["text", {"prompt": "row"}, {"question": "other name"}, turns, Prompt.of("record")]
    result = evaluated(lambda prompt: "quality=5", judge, tmp_path, prompts=given)
    asked = [answer.prompt.text for answer in result.answers]
    assert asked == ["text", "row", "other name", "turns", "record"]
    result = evaluated(lambda prompt: "quality=5", judge, tmp_path, prompts=tmp_path / "prompts.jsonl")
    assert [answer.prompt.text for answer in result.answers] == ["from a file"]
