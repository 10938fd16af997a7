from __future__ import annotations

from typing import Any

import pytest

from fairlead.data.reading.detection import NAMES, detect
from fairlead.data.reading.fields import UnusableRowError
from fairlead.data.reading.formats import FORMATS
from fairlead.errors import DataError
from fairlead.records import Imported, Message, Preference, Prompt, to_json
from tests.support.pairs import SAMPLED


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


ASK = (Message("user", "hi"),)
ROWS: dict[str, dict[str, Any]] = {
    "standard": {"prompt": "hi", "chosen": "hello", "rejected": "go"},
    "conversational": {"prompt": [user("hi")], "chosen": [assistant("hello")], "rejected": [assistant("go")]},
    "implicit": {"chosen": [user("hi"), assistant("hello")], "rejected": [user("hi"), assistant("go")]},
    "ultrafeedback": {
        "prompt": "hi",
        "prompt_id": "ab12",
        "chosen": [user("hi"), assistant("hello")],
        "rejected": [user("hi"), assistant("go")],
        "messages": [user("hi"), assistant("hello")],
        "score_chosen": 8.5,
        "score_rejected": 6.0,
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": "hi"}],
        "chosen": {"from": "gpt", "value": "hello"},
        "rejected": {"from": "gpt", "value": "go"},
    },
    "hh": {"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: go"},
    "openai": {
        "input": {"messages": [user("hi")], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [assistant("hello")],
        "non_preferred_output": [assistant("go")],
    },
    "distilabel": {"instruction": "hi", "generations": ["go", "hello", "hm"], "ratings": [1, 5, 3]},
    "argilla": {
        "id": "r1",
        "fields": {"instruction": "hi", "generation-0": "go", "generation-1": "hello", "generation-2": "hm"},
        "responses": {},
        "suggestions": {
            f"generation-{n}-rating": {"value": rating, "agent": "gpt-4"} for n, rating in enumerate((1, 5, 3))
        },
    },
    "alpaca_eval": {"instruction": "hi", "output_1": "go", "output_2": "hello", "preference": 1.75},
    "fairlead": to_json(Preference(Prompt(ASK), "hello", "go")),
}


def test_every_format_has_an_example_here() -> None:
    assert ROWS.keys() == FORMATS.keys()
    assert len(FORMATS) == 11


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_recognised_and_read(name: str) -> None:
    assert detect(ROWS[name]) == name
    pair = FORMATS[name](ROWS[name])
    assert (pair.prompt.messages, pair.chosen, pair.rejected) == (ASK, "hello", "go")


def test_the_margin_is_the_difference_of_the_scores_and_none_without_them() -> None:
    assert FORMATS["ultrafeedback"](ROWS["ultrafeedback"]).margin == 2.5
    assert FORMATS["standard"](ROWS["standard"]).margin is None
    assert FORMATS["standard"]({**ROWS["standard"], "chosen_rating": 5, "rejected_rating": 4}).margin == 1.0


def test_the_prompt_is_the_longest_common_prefix_of_turns() -> None:
    shared = [user("hi"), assistant("hello"), user("and?")]
    pair = FORMATS["implicit"]({"chosen": [*shared, assistant("a")], "rejected": [*shared, assistant("b")]})
    assert [m.content for m in pair.prompt.messages] == ["hi", "hello", "and?"]
    assert (pair.chosen, pair.rejected) == ("a", "b")


def test_conversations_that_part_before_the_last_answer_hold_no_preference() -> None:
    row = {"chosen": [user("hi"), assistant("a")], "rejected": [user("hello"), assistant("b")]}
    with pytest.raises(UnusableRowError, match="not one answer each to the same prompt"):
        FORMATS["implicit"](row)


def test_an_implicit_string_prompt_ends_at_a_whole_word() -> None:
    pair = FORMATS["implicit"]({"chosen": "The sky is blue.", "rejected": "The sky is black."})
    assert (pair.prompt.text, pair.chosen, pair.rejected) == ("The sky is", "blue.", "black.")


def test_a_human_assistant_transcript_is_read_as_turns() -> None:
    start = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: and?\n\nAssistant:"
    pair = FORMATS["hh"]({"chosen": start + " a", "rejected": start + " b"})
    assert [m.role for m in pair.prompt.messages] == ["user", "assistant", "user"]
    assert (pair.chosen, pair.rejected) == ("a", "b")


def test_a_system_column_of_sharegpt_becomes_the_first_turn() -> None:
    pair = FORMATS["sharegpt"]({**ROWS["sharegpt"], "system": "be brief"})
    assert pair.prompt.messages == (Message("system", "be brief"), *ASK)


def test_gold_and_cluster_come_along() -> None:
    pair = FORMATS["standard"]({**ROWS["standard"], "gold": {"severity": "low"}, "cluster": "db"})
    assert (pair.prompt.gold, pair.prompt.cluster) == ({"severity": "low"}, "db")


def test_fairlead_rows_come_back_as_they_were() -> None:
    pair = Preference(Prompt(ASK, {"a": 1}, "c"), "x", "y", 0.5, SAMPLED)
    assert FORMATS["fairlead"](to_json(pair)) == pair


@pytest.mark.parametrize(
    "columns",
    [
        ("score_chosen", "score_rejected"),
        ("chosen-rating", "rejected-rating"),
        ("rating_chosen", "rating_rejected"),
        ("chosen_avg_rating", "rejected_avg_rating"),
    ],
)
def test_scores_are_found_under_their_published_names(columns: tuple[str, str]) -> None:
    assert FORMATS["standard"]({**ROWS["standard"], columns[0]: 5, columns[1]: 3.5}).margin == 1.5


def test_transcripts_that_part_earlier_than_the_last_answer_hold_no_preference() -> None:
    row = {
        "chosen": "\n\nHuman: hi\n\nAssistant: a\n\nHuman: so?\n\nAssistant: b",
        "rejected": "\n\nHuman: hi\n\nAssistant: c",
    }
    with pytest.raises(UnusableRowError, match="not one answer each"):
        FORMATS["hh"](row)


def test_text_parts_of_openai_messages_are_joined() -> None:
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    row = {**ROWS["openai"], "input": {"messages": [{"role": "developer", "content": "be brief"}, user(parts)]}}  # type: ignore[arg-type]
    assert FORMATS["openai"](row).prompt.messages == (Message("system", "be brief"), *ASK)


def test_an_image_in_openai_messages_is_refused() -> None:
    row = {**ROWS["openai"], "input": {"messages": [user([{"type": "image_url", "image_url": {}}])]}}  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"'messages\[0\].content' must be a string"):
        FORMATS["openai"](row)


def test_generations_are_paired_best_against_worst_with_their_models() -> None:
    pair = FORMATS["distilabel"]({**ROWS["distilabel"], "generation_models": ["m0", "m1", "m2"]})
    assert (pair.margin, pair.provenance) == (4, Imported(chosen_model="m1", rejected_model="m0"))


def test_a_generation_without_a_rating_is_neither_best_nor_worst() -> None:
    assert FORMATS["distilabel"]({**ROWS["distilabel"], "ratings": [None, 5, 3]}).rejected == "hm"


@pytest.mark.parametrize(
    ("ratings", "reason"),
    [([4, 4, 4], "equal scores"), ([None, 4, float("nan")], "fewer than two rated generations")],
)
def test_ratings_that_say_nothing_make_no_pair(ratings: list[Any], reason: str) -> None:
    with pytest.raises(UnusableRowError, match=reason):
        FORMATS["distilabel"]({**ROWS["distilabel"], "ratings": ratings})


@pytest.mark.parametrize(
    "row",
    [
        {
            "instruction": "hi",
            "chosen_response": "hello",
            "rejected_response": "go",
            "chosen_rating": 4,
            "rejected_rating": 2,
        },
        {"system": "", "input": "hi", "chosen": "hello", "rejected": "go", "margin": 2.0},
    ],
)
def test_published_argilla_rows_are_read(row: dict[str, Any]) -> None:
    pair = FORMATS[detect(row)](row)
    assert (pair.prompt.messages, pair.chosen, pair.rejected, pair.margin) == (ASK, "hello", "go", 2)


TWO = {"prompt": "hi", "response1": "go", "response2": "hello", "system_prompt": "be brief"}


@pytest.mark.parametrize(
    ("row", "margin"),
    [
        ({"responses": {"preference": [{"value": "response2", "user_id": "u"}]}}, None),
        ({"responses": {}, "suggestions": {"preference": {"value": "response2"}}}, None),
        (
            {"responses": {"r": [{"value": [{"value": "response2", "rank": 1}, {"value": "response1", "rank": 2}]}]}},
            None,
        ),
        (
            {
                "responses": {
                    "response1-rating": [{"value": 2}, {"value": 3}],
                    "response2-rating": [{"value": 4}, {"value": 4}],
                },
                "suggestions": {"response1-rating": {"value": 5}, "response2-rating": {"value": 1}},
            },
            1.5,
        ),
        (
            {
                "responses": [
                    {"values": {"preference": {"value": "response2"}}, "status": "submitted"},
                    {"values": {"preference": {"value": "response1"}}, "status": "discarded"},
                ],
            },
            None,
        ),
        ({"responses": [], "suggestions": [{"question_name": "preference", "value": "response2"}]}, None),
    ],
)
def test_argilla_records_of_both_layouts_are_read(row: dict[str, Any], margin: float | None) -> None:
    record = {"fields": TWO, **row}
    assert detect(record) == "argilla"
    pair = FORMATS["argilla"](record)
    assert (pair.chosen, pair.rejected, pair.margin) == ("hello", "go", margin)
    assert pair.prompt.messages == (Message("system", "be brief"), *ASK)


@pytest.mark.parametrize(
    ("responses", "reason"),
    [
        ({"p": [{"value": "response1"}, {"value": "response2"}]}, "equal scores"),
        ({"response1-rating": [{"value": 4}], "response2-rating": [{"value": 4}]}, "equal scores"),
        ({"p": [{"value": "both are fine"}]}, "no verdict"),
        ({}, "no verdict"),
    ],
)
def test_argilla_records_that_prefer_nothing_make_no_pair(responses: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableRowError, match=reason):
        FORMATS["argilla"]({"fields": TWO, "responses": responses})


def test_the_tools_of_a_request_are_kept() -> None:
    request = {"tools": [{"type": "function", "function": {"name": "f"}}], "parallel_tool_calls": False}
    pair = FORMATS["openai"]({**ROWS["openai"], "input": {"messages": [user("hi")], **request}})
    assert pair.provenance == Imported(request=request)


@pytest.mark.parametrize(
    ("preference", "chosen", "outcome", "margin"),
    [(1.75, "hello", "win", 0.5), (1.0, "go", "loss", 1.0), (1.5, "hello", "draw", 0.0)],
)
def test_alpaca_eval_prefers_the_model_above_one_and_a_half(
    preference: float, chosen: str, outcome: str, margin: float
) -> None:
    pair = FORMATS["alpaca_eval"]({**ROWS["alpaca_eval"], "preference": preference})
    assert (pair.chosen, pair.provenance, pair.margin) == (chosen, Imported(outcome=outcome), margin)


@pytest.mark.parametrize("preference", [None, 0.0, 2.5])
def test_alpaca_eval_without_a_verdict_makes_no_pair(preference: float | None) -> None:
    with pytest.raises(UnusableRowError, match="no verdict"):
        FORMATS["alpaca_eval"]({**ROWS["alpaca_eval"], "preference": preference})


def test_gold_and_provenance_may_be_json_text() -> None:
    origin = '{"kind": "imported", "source": "a.jsonl", "row": 3}'
    pair = FORMATS["standard"]({**ROWS["standard"], "gold": '{"a": 1}', "provenance": origin})
    assert (pair.prompt.gold, pair.provenance) == ({"a": 1}, Imported("a.jsonl", 3))


def test_a_provenance_of_another_form_is_kept_as_a_column() -> None:
    pair = FORMATS["standard"]({**ROWS["standard"], "provenance": '{"judge": "j"}'})
    assert pair.provenance == Imported(columns={"provenance": {"judge": "j"}})


ANSWERS = {
    "openai": ("preferred_output", "non_preferred_output"),
    "distilabel": ("instruction", "generations"),
    "alpaca_eval": ("output_1", "output_2"),
    "argilla": ("fields",),
}


@pytest.mark.parametrize(("name", "column"), [(n, c) for n in ROWS for c in ANSWERS.get(n, ("chosen", "rejected"))])
def test_a_missing_field_is_named(name: str, column: str) -> None:
    row = {key: value for key, value in ROWS[name].items() if key != column}
    missing = {"instruction": "messages", "generations": "chosen"}.get(column, column)
    with pytest.raises(DataError, match=f"no field '{missing}'|'fields' must be an object"):
        FORMATS[name](row)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("standard", {"chosen": 3}, "'chosen' must be a string, not 3"),
        ("standard", {"chosen": None}, "null field 'chosen'"),
        ("standard", {"gold": "low"}, "'gold' must be an object"),
        ("standard", {"cluster": 3}, "'cluster' must be a string"),
        ("conversational", {"prompt": []}, "'prompt' must be a list of messages"),
        (
            "conversational",
            {"chosen": [{"role": "judge", "content": "x"}]},
            r"'chosen\[0\].role' must be one of system",
        ),
        ("conversational", {"chosen": [assistant(None)]}, r"'chosen\[0\].content' must be a string, not None"),  # type: ignore[arg-type]
        ("conversational", {"chosen": ["hello"]}, r"'chosen\[0\]' must be an object with role and content"),
        ("ultrafeedback", {"score_chosen": "8"}, "'score_chosen' must be a finite number, not '8'"),
        ("ultrafeedback", {"score_rejected": float("nan")}, "'score_rejected' must be a finite number"),
        ("ultrafeedback", {"score_rejected": None}, "null field 'score_rejected'"),
        ("sharegpt", {"conversations": "hi"}, "'conversations' must be a list of messages"),
        ("hh", {"chosen": "Human: hi"}, "'chosen' must be a transcript"),
        ("openai", {"input": "hi"}, "'input' must be an object with messages"),
        ("distilabel", {"ratings": [1]}, "'ratings' must be a list, with a rating for each"),
        ("distilabel", {"ratings": [1, "5", 3]}, r"'ratings\[1\]' must be a finite number"),
        ("distilabel", {"generations": ["go", 7, "hm"]}, r"'generations\[1\]' must be a string"),
        ("alpaca_eval", {"preference": "1.5"}, "'preference' must be a finite number"),
        ("fairlead", {"prompt": "hi"}, "'prompt' must be an object with messages"),
        ("fairlead", {"margin": True}, "'margin' must be a finite number, not True"),
        ("fairlead", {"provenance": []}, "'provenance' must be an object"),
        ("fairlead", {"provenance": {"kind": "sampled"}}, r"'provenance\.chosen' does not fit: field required"),
        ("fairlead", {"provenance": {"kind": "imported", "row": "x"}}, r"'provenance\.row' does not fit"),
    ],
)
def test_a_wrong_type_is_named(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        FORMATS[name]({**ROWS[name], **change})


def test_unknown_columns_are_listed() -> None:
    with pytest.raises(DataError, match="columns question, answer are no known form") as caught:
        detect({"question": "q", "answer": "a"})
    assert all(name in str(caught.value) for name in NAMES)


def test_responses_that_are_no_list_are_named() -> None:
    with pytest.raises(DataError, match="field 'responses' must be an object or a list, not 3"):
        FORMATS["argilla"]({"fields": TWO, "responses": 3})
