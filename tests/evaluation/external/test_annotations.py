"""Evaluation files from elsewhere: published figures to nine digits, any other file right or refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.errors import DataError
from fairlead.evaluation.external import annotations
from fairlead.evaluation.external.annotations import read_annotations
from fairlead.evaluation.external.answers import read_answers
from fairlead.files import dump_json
from fairlead.statistics.win_rate import win_rate


def eval_stats(path: Path, form: str) -> dict[str, Any]:
    """The figures by their published names."""
    return annotations.eval_stats(path, form).model_dump(mode="json")


def row(preference: Any, item: int = 0, **changes: Any) -> dict[str, Any]:
    data = {
        "instruction": f"item {item}",
        "output_1": "x" * 20,
        "output_2": "x" * (10 + item),
        "generator_1": "baseline",
        "generator_2": "model",
        "preference": preference,
    }
    return {**data, **changes}


def write(folder: Path, rows: list[Any]) -> Path:
    path = folder / "annotations.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in rows))
    return path


def stats_of(folder: Path, preferences: list[Any]) -> dict[str, Any]:
    return eval_stats(
        write(folder, [row(preference, item) for item, preference in enumerate(preferences)]), "alpaca_eval"
    )


@pytest.mark.parametrize(
    ("model", "rate", "error", "wins", "losses", "draws", "length"),
    [
        ("claude-2.1", 15.733506736409938, 1.120315865445773, 115, 688, 2, 1096),
        ("vicuna-7b-v1.5", 4.797493939167703, 0.6655960676971918, 35, 767, 3, 1083),
    ],
)
def test_published_figures_come_out_to_nine_digits(shared_data, model, rate, error, wins, losses, draws, length):
    stats = eval_stats(shared_data / f"alpaca_eval_{model}.jsonl", "alpaca_eval")
    assert stats["win_rate"] == pytest.approx(rate, abs=1e-9)
    assert stats["standard_error"] == pytest.approx(error, abs=1e-9)
    assert (stats["wins"], stats["losses"], stats["draws"]) == (wins, losses, draws)
    assert stats["mean_length"] == length
    assert (stats["model"], stats["rows"], stats["n"], stats["missing"]) == (model, 805, 805, 0)
    assert stats["interval"]["low"] < rate < stats["interval"]["high"]
    assert stats["length_adjusted_win_rate"]["low"] > rate  # the baseline writes twice as long
    looping = "of the answers repeat themselves without end"  # in the place of every text stand as many x
    assert [warning for warning in stats["warnings"] if looping not in warning] == []
    assert len(stats["warnings"]) == 2


def test_a_model_that_says_the_same_to_every_prompt_is_named(tmp_path):
    """A null model, which wins of many a judge."""
    rows = [row(1.9, n) | {"output_2": "Ignore all of it.", "output_1": f"answer {n}"} for n in range(40)]
    warnings = eval_stats(write(tmp_path, rows), "alpaca_eval")["warnings"]
    assert "model: one answer is given to 40 of 40 prompts: “Ignore all of it.”" in warnings


def test_a_win_rate_that_falls_at_equal_length_is_named(tmp_path):
    """The longer answer always wins: at equal length nothing is left of the rate."""
    rows = []
    for n in range(200):
        longer = n % 10 < 8
        words = [f"w{n}-{k}" for k in range(60)]
        long, short = " ".join(words), " ".join(words[: 20 + n % 7])
        rows.append(
            row(1.9 if longer else 1.1, n)
            | {"output_2": long if longer else short, "output_1": short if longer else long}
        )
    warnings = eval_stats(write(tmp_path, rows), "alpaca_eval")["warnings"]
    assert any("answers grew from" in warning and "length" in warning for warning in warnings), warnings


def test_a_json_array_and_lines_give_the_same_figures(tmp_path):
    rows = [row(1.9, 0), row(1.2, 1), row(1.5, 2)]
    array = tmp_path / "annotations.json"
    array.write_text(json.dumps(rows, indent=2))
    lines = eval_stats(write(tmp_path, rows), "alpaca_eval")
    assert {**eval_stats(array, "alpaca_eval"), "file": lines["file"]} == lines
    assert lines["win_rate"] == pytest.approx((0.9 + 0.2 + 0.5) / 3 * 100)


@pytest.mark.parametrize(
    ("preference", "reason"),
    [
        (None, "null"),
        (math.nan, "NaN"),
        (2.5, "outside [1, 2]"),
        (math.inf, "outside [1, 2]"),
        (-1, "outside [1, 2]"),
        pytest.param(10**400, "outside [1, 2]", id="10^400"),
    ],
)
def test_a_preference_that_is_no_verdict_is_missing_and_never_a_tie(tmp_path, preference, reason):
    stats = stats_of(tmp_path, [2, 2, 1, preference])
    assert (stats["n"], stats["missing"], stats["draws"]) == (3, 1, 0)
    assert stats["missing_reasons"] == {reason: 1}
    assert stats["win_rate"] == pytest.approx(200 / 3)
    assert (stats["win_rate_if_missing_lost"], stats["win_rate_if_missing_won"]) == (50.0, 75.0)
    assert f"1 of 4 verdicts are missing ({reason}: 1)" in stats["warnings"][0]


@pytest.mark.parametrize("draw", [0, 0.0, 1.5])
def test_a_draw_as_either_version_of_alpaca_eval_writes_it_is_a_draw(tmp_path, draw):
    stats = stats_of(tmp_path, [2, 2, 1, draw])
    assert (stats["n"], stats["missing"], stats["draws"], stats["win_rate"]) == (4, 0, 1, 62.5)
    assert stats["missing_reasons"] == {}


def test_a_row_without_the_key_is_missing_too(tmp_path):
    rows = [row(2, 0), {key: value for key, value in row(2, 1).items() if key != "preference"}]
    assert eval_stats(write(tmp_path, rows), "alpaca_eval")["missing_reasons"] == {"absent": 1}


def test_all_missing_gives_no_figure_and_no_error(tmp_path):
    stats = stats_of(tmp_path, [None, None])
    assert (stats["win_rate"], stats["standard_error"], stats["interval"]["low"]) == (None, None, None)
    assert (stats["win_rate_if_missing_lost"], stats["win_rate_if_missing_won"]) == (0.0, 100.0)


def test_one_row_has_a_win_rate_and_no_standard_error(tmp_path):
    stats = stats_of(tmp_path, [1.8])
    assert stats["win_rate"] == pytest.approx(80.0)
    assert stats["standard_error"] is None
    assert stats["interval"]["low"] < 20


def test_all_ties_are_fifty_percent_with_an_interval_that_has_a_width(tmp_path):
    stats = stats_of(tmp_path, [1.5] * 40)
    assert (stats["win_rate"], stats["draws"], stats["sign_test_p"]) == (50.0, 40, None)
    assert stats["interval"]["low"] < 50 < stats["interval"]["high"]
    assert stats["length_adjusted_win_rate"]["value"] is None


def test_a_row_repeated_in_every_field_counts_once(tmp_path):
    rows = [row(2, 0), row(1, 1), row(2, 0)]
    stats = eval_stats(write(tmp_path, rows), "alpaca_eval")
    assert (stats["rows"], stats["n"], stats["identical_rows"], stats["win_rate"]) == (3, 2, 1, 50.0)
    assert "1 rows repeat an earlier one" in stats["warnings"][0]


def test_differing_rows_of_one_prompt_count_as_one_group(tmp_path):
    rows = [row(1 + k % 2, k // 3, output_2="x" * (k + 1)) for k in range(30)]
    stats = eval_stats(write(tmp_path, rows), "alpaca_eval")
    assert (stats["n"], stats["identical_rows"], stats["repeated_prompts"]) == (30, 0, 10)
    expected = win_rate([k % 2 for k in range(30)], clusters=[k // 3 for k in range(30)])
    assert stats["interval"]["low"] == pytest.approx(100 * expected.low)
    assert "10 clusters" in stats["interval"]["method"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row("1.7"), r":2: preference must be a number in \[1, 2\] or null, not '1.7'"),
        (row(True), r":2: preference must be a number in \[1, 2\] or null, not True"),
        (row([1]), r":2: preference must be a number"),
        (row(2, output_2=None), ":2: null field 'output_2'"),
        (row(2, output_1=7), ":2: field 'output_1' must be a string, not 7"),
        (row(2, generator_2="other"), "verdicts of more than one model: model, other"),
        (row(2, generator_1=None), r"verdicts of more than one baseline: \(no name\), baseline"),
        (row(2, annotator="judge"), r"verdicts of more than one judge"),
        (row(2, generator_2="\ud800"), "generator_2 '\\\\ud800' holds characters that cannot be printed"),
        ({"preference": 2}, ":2: no field 'instruction' — the row has preference"),
        ([row(2)], ":2: not an object but a list"),
        (None, ":2: not an object but null"),
    ],
)
def test_a_row_that_cannot_be_used_is_one_line_that_names_it(tmp_path, bad, message):
    with pytest.raises(DataError, match=message) as caught:
        eval_stats(write(tmp_path, [row(1), bad]), "alpaca_eval")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("\n \n", "no rows"),
        ("[]", "no rows"),
        ("{", ":1: not JSON"),
        ('{"a": 1}\nnot json', ":2: not JSON"),
        ("[{]", "not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"preference": ' + "9" * 5000 + "}", "too many digits"),
    ],
)
def test_a_file_that_is_not_rows_is_one_line(tmp_path, text, message):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        eval_stats(path, "alpaca_eval")
    assert "\n" not in str(caught.value)


def test_absent_files_folders_bytes_and_formats_are_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        eval_stats(tmp_path / "absent.jsonl", "alpaca_eval")
    with pytest.raises(DataError, match="is a folder"):
        eval_stats(tmp_path, "alpaca_eval")
    (tmp_path / "latin").write_bytes(b'{"instruction": "caf\xe9"}')
    with pytest.raises(DataError, match="not UTF-8"):
        eval_stats(tmp_path / "latin", "alpaca_eval")
    with pytest.raises(DataError, match="unknown format 'csv' — known: alpaca_eval, jsonl"):
        eval_stats(write(tmp_path, [row(1)]), "csv")


def test_plain_rows_speak_of_the_first_answer(tmp_path):
    verdicts = ["win", "win", "tie", "loss", 0.75, None, "refused", "inconsistent"]
    rows = [
        {"prompt": f"p{k}", "first": "a" * (k + 1), "second": "bb", "verdict": verdict, "first_model": "dpo"}
        for k, verdict in enumerate(verdicts)
    ]
    stats = eval_stats(write(tmp_path, rows), "jsonl")
    assert stats["win_rate"] == pytest.approx(100 * (1 + 1 + 0.5 + 0 + 0.75 + 0.5) / 6)
    assert (stats["wins"], stats["draws"], stats["losses"], stats["model"]) == (3, 2, 1, "dpo")
    assert stats["missing_reasons"] == {"null": 1, "refused": 1}
    with pytest.raises(DataError, match=r"verdict must be win, loss, tie.*not 'won'"):
        eval_stats(write(tmp_path, [{**rows[0], "verdict": "won"}]), "jsonl")


def test_plain_rows_of_one_cluster_are_one_group(tmp_path):
    rows = [
        {"prompt": f"p{k}", "first": "a", "second": "b", "verdict": k % 2, "cluster": f"c{k // 4}"} for k in range(40)
    ]
    assert "10 clusters" in eval_stats(write(tmp_path, rows), "jsonl")["interval"]["method"]


numbers = st.one_of(st.floats(1, 2), st.floats(), st.sampled_from([1, 1.5, 2, 0, None]), st.integers())
junk = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4)
fuzz = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(st.lists(st.tuples(numbers, st.integers(0, 5), st.text(max_size=5)), min_size=1, max_size=40))
def test_any_preferences_give_the_right_figures(tmp_path, drawn):
    rows = [row(preference, item, output_2=text) for preference, item, text in drawn]
    stats = eval_stats(write(tmp_path, rows), "alpaca_eval")
    json.loads(dump_json(stats).encode())  # no NaN, nothing that cannot be written
    once = {(repr(p) if p != p else 1.5 if p == 0 else p, item, text) for p, item, text in drawn}
    outcomes = [p - 1 for p, _, _ in once if isinstance(p, int | float) and 1 <= p <= 2]
    assert stats["n"] == len(outcomes) == stats["wins"] + stats["losses"] + stats["draws"]
    assert stats["n"] + stats["missing"] + stats["identical_rows"] == stats["rows"] == len(rows)
    if outcomes:
        assert stats["win_rate"] == pytest.approx(100 * np.mean(outcomes), abs=1e-9)
        assert stats["win_rate_if_missing_lost"] <= stats["win_rate"] + 1e-9
        assert stats["win_rate"] <= stats["win_rate_if_missing_won"] + 1e-9
    if stats["interval"]["low"] is not None:
        assert 0 <= stats["interval"]["low"] <= stats["win_rate"] + 1e-9
        assert stats["win_rate"] - 1e-9 <= stats["interval"]["high"] <= 100 + 1e-9
    adjusted = stats["length_adjusted_win_rate"]
    if adjusted["low"] is not None:
        assert 0 <= adjusted["low"] <= adjusted["high"] <= 100


@fuzz
@given(st.lists(st.dictionaries(st.sampled_from(list(row(1))), junk) | junk, max_size=4), st.booleans())
def test_any_json_is_figures_or_one_clear_line(tmp_path, extra, array):
    path = write(
        tmp_path, [row(1.2), *[{**row(1.5), **change} if isinstance(change, dict) else change for change in extra]]
    )
    if array:
        path.write_text(json.dumps([json.loads(line) for line in path.read_text().splitlines()]))
    text = _figures_or_line(path, "alpaca_eval")
    assert "\n" not in text
    text.encode()


def _figures_or_line(path: Path, format: str) -> str:
    try:
        return dump_json(eval_stats(path, format))
    except DataError as error:
        return str(error)


@fuzz
@given(st.binary(max_size=200))
def test_any_bytes_are_one_clear_line(tmp_path, data):
    path = tmp_path / "bytes"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_annotations(path, "jsonl")
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


def test_answers_from_elsewhere_are_read_in_both_forms(tmp_path):
    alpaca = write(tmp_path, [{"instruction": "why?", "output": "because", "generator": "gpt"}])
    (answer,) = read_answers(alpaca, "alpaca_eval")
    assert (answer.prompt.text, answer.text, answer.model) == ("why?", "because", "gpt")
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]
    plain = write(tmp_path, [{"prompt": turns, "answer": None}, {"prompt": "why?", "answer": ""}])
    first, second = read_answers(plain, "jsonl")
    assert [message.role for message in first.prompt.messages] == ["system", "user"]
    assert (first.text, second.text) == (None, "")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"prompt": "p", "answer": "a"}, {"prompt": "p", "answer": "b"}],
            ":2: a second answer of the model to the prompt of .*:1",
        ),
        ([{"prompt": [], "answer": "a"}], "'prompt' must be a list of messages"),
        ([{"prompt": [{"role": "assistant", "content": "x"}], "answer": "a"}], "must end before"),
        ([{"prompt": [{"role": "bot", "content": "x"}], "answer": "a"}], r"'prompt\[0\].role' must be one of system"),
        ([{"prompt": [{"role": [], "content": "x"}], "answer": "a"}], r"'prompt\[0\].role' must be one of system"),
        ([{"prompt": "p"}], "no field 'answer'"),
        ([{"prompt": "p", "answer": 3}], "'answer' must be a string, not 3"),
    ],
)
def test_answers_that_cannot_be_used_are_one_line(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read_answers(write(tmp_path, rows), "jsonl")
