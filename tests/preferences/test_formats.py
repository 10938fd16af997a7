from __future__ import annotations

from typing import Any

import pytest

from fairlead.errors import DataError
from fairlead.preferences.formats import FORMATS, UnusableRowError, detect
from fairlead.records import Message, Preference, Prompt, to_json


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
    "fairlead": to_json(Preference(Prompt(ASK), "hello", "go")),
}


def test_every_format_has_an_example_here() -> None:
    assert ROWS.keys() == FORMATS.keys()
    assert len(FORMATS) == 6


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
    pair = FORMATS["implicit"]({"chosen": start + " a", "rejected": start + " b"})
    assert [m.role for m in pair.prompt.messages] == ["user", "assistant", "user"]
    assert (pair.chosen, pair.rejected) == ("a", "b")


def test_a_system_column_of_sharegpt_becomes_the_first_turn() -> None:
    pair = FORMATS["sharegpt"]({**ROWS["sharegpt"], "system": "be brief"})
    assert pair.prompt.messages == (Message("system", "be brief"), *ASK)


def test_gold_and_cluster_come_along() -> None:
    pair = FORMATS["standard"]({**ROWS["standard"], "gold": {"severity": "low"}, "cluster": "db"})
    assert (pair.prompt.gold, pair.prompt.cluster) == ({"severity": "low"}, "db")


def test_fairlead_rows_come_back_as_they_were() -> None:
    pair = Preference(Prompt(ASK, {"a": 1}, "c"), "x", "y", 0.5, {"judge": "rubric", "calls": ["k"]})
    assert FORMATS["fairlead"](to_json(pair)) == pair


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("column", ["chosen", "rejected"])
def test_a_missing_field_is_named(name: str, column: str) -> None:
    row = {key: value for key, value in ROWS[name].items() if key != column}
    with pytest.raises(DataError, match=f"no field '{column}'"):
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
        ("fairlead", {"prompt": "hi"}, "'prompt' must be an object with messages"),
        ("fairlead", {"margin": True}, "'margin' must be a finite number, not True"),
        ("fairlead", {"provenance": []}, "'provenance' must be an object"),
    ],
)
def test_a_wrong_type_is_named(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        FORMATS[name]({**ROWS[name], **change})


def test_unknown_columns_are_listed() -> None:
    with pytest.raises(DataError, match="columns question, answer are no known form") as caught:
        detect({"question": "q", "answer": "a"})
    assert all(name in str(caught.value) for name in FORMATS)
