"""`fairlead data check`, clean, split, export and show, as a person types them."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fairlead.cli.data import app, show
from fairlead.data import pager as pager_module
from fairlead.data.reading.readers import read_preferences, read_prompts
from fairlead.errors import ConfigError, DataError, DiskError, LeakError
from fairlead.files import write_jsonl
from fairlead.records import Preference, Prompt, to_json
from tests.support.pairs import SAMPLED, clean, pair

runner = CliRunner()


def fairlead_output(*arguments: object, status: int = 0) -> str:
    result = runner.invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


def written(folder: Path, pairs: list[Preference], name: str = "pairs.jsonl") -> Path:
    write_jsonl(folder / name, map(to_json, pairs))
    return folder / name


def row(folder: Path, *rows: dict[str, Any]) -> Path:
    write_jsonl(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


def test_check_fails_with_the_rows_and_clean_mends_it(tmp_path: Path) -> None:
    file = written(tmp_path, [*clean(30), pair(500, chosen="AKIAABCDEFGHIJKLMNOP."), pair(3)])
    report = json.loads(fairlead_output("check", file, "--json", status=5))
    findings = {finding["check"]: finding for finding in report["findings"]}
    assert report["status"] == "fail"
    assert findings["secrets"]["rows"] == ["31"]
    assert findings["exact_duplicates"]["rows"] == ["32"]
    assert "fairlead data clean" in fairlead_output("check", file, status=5)
    out = tmp_path / "cleaned.jsonl"
    fairlead_output("clean", file, "--drop", "secrets", "--drop", "exact_duplicates", "--out", out)
    assert read_preferences("cleaned.jsonl", tmp_path).preferences == clean(30)
    fairlead_output("check", out)
    fairlead_output("check", out, "--strict", status=5)


def test_the_command_that_mends_repeats_what_was_given_and_can_be_pasted(tmp_path: Path) -> None:
    odd = written(tmp_path, [*clean(30), pair(500, chosen="AKIAABCDEFGHIJKLMNOP.")], "it's odd.jsonl")
    eval_file = tmp_path / "eval.jsonl"
    write_jsonl(eval_file, [{"prompt": "Something else"}])
    options = ("--format", "fairlead", "--eval", eval_file, "--similarity", 0.9)
    report = json.loads(fairlead_output("check", odd, *options, "--json", status=5))
    [command] = [f["remedy"] for f in report["findings"] if f["check"] == "secrets"]
    words = shlex.split(command)
    assert words[:4] == ["fairlead", "data", "clean", str(odd)]
    words[words.index("--out") + 1] = str(tmp_path / "cleaned.jsonl")
    fairlead_output(*words[2:])
    fairlead_output("check", tmp_path / "cleaned.jsonl", *options)


def test_a_file_without_a_usable_row_is_a_report_that_fails(tmp_path: Path) -> None:
    same = {"prompt": "q", "chosen": "a", "rejected": "a"}
    report = json.loads(fairlead_output("check", row(tmp_path, same, same), "--json", status=5))
    assert report["rows"] == 0
    assert [f["rows"] for f in report["findings"] if f["check"] == "identical"] == [["1", "2"]]
    assert "identical" in fairlead_output("check", row(tmp_path, same), status=5)


def test_a_split_says_what_it_left_out(tmp_path: Path) -> None:
    file = written(
        tmp_path, [*(pair(n, prompt=Prompt.of(pair(n).prompt.text)) for n in range(60)), pair(0, chosen=" ")]
    )
    text = fairlead_output("split", file, "--out", tmp_path / "split", "--similarity", 1)
    assert "1 rows left out (empty chosen: 1)" in text


@pytest.mark.parametrize("pager", ["head -n 3", "no-such-pager"])
def test_pairs_are_rendered_when_the_pager_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], pager: str
) -> None:
    texts: list[str] = []
    clipped = pager_module.clipped
    monkeypatch.setattr(pager_module, "clipped", lambda text, limit: texts.append(text) or clipped(text, limit))
    monkeypatch.setattr("fairlead.cli.data.out", Console(force_terminal=True, width=100))
    monkeypatch.setenv("PAGER", pager)
    show(str(written(tmp_path, clean(300))), start=1, count=None, most_chars=200)
    assert "row 1" in capfd.readouterr().out
    assert (len(texts) == 900) == (pager == "no-such-pager"), "three texts a pair"


def test_a_waiver_on_the_command_line(tmp_path: Path) -> None:
    file = written(tmp_path, [*clean(30), pair(500, chosen="AKIAABCDEFGHIJKLMNOP.")])
    report = json.loads(fairlead_output("check", file, "--waive", "secrets=published", "--json"))
    assert [f["waived"] for f in report["findings"] if f["check"] == "secrets"] == ["published"]
    with pytest.raises(ConfigError, match="--waive"):
        fairlead_output("check", file, "--waive", "secrets")
    with pytest.raises(ConfigError, match="--purpose"):
        fairlead_output("check", file, "--purpose", "fun")


def test_equal_ratings_never_make_a_pair(tmp_path: Path) -> None:
    rated = {"instruction": "q", "generations": ["a", "b"], "ratings": [3, 3]}
    good = {"instruction": "other", "generations": ["a", "b"], "ratings": [3, 4]}
    report = json.loads(fairlead_output("check", row(tmp_path, rated, good), "--json", status=5))
    [equal] = [finding for finding in report["findings"] if finding["check"] == "equal_ratings"]
    assert (equal["status"], equal["rows"]) == ("fail", ["1"])
    assert report["rows"] == 1


def test_overlap_with_the_eval_set(tmp_path: Path) -> None:
    file = written(tmp_path, clean(30))
    eval_file = tmp_path / "eval.jsonl"
    write_jsonl(eval_file, [{"prompt": pair(7).prompt.text}])
    report = json.loads(fairlead_output("check", file, "--eval", eval_file, "--json", status=5))
    assert [f["rows"] for f in report["findings"] if f["check"] == "eval_overlap"] == [["8"]]
    fairlead_output("clean", file, "--drop", "eval_overlap", "--eval", eval_file, "--out", tmp_path / "out.jsonl")
    assert pair(7) not in read_preferences("out.jsonl", tmp_path).preferences
    with pytest.raises(DataError, match="the check eval_overlap was not made"):
        fairlead_output("clean", file, "--drop", "eval_overlap", "--out", tmp_path / "x.jsonl")


def test_a_split_is_proved_and_a_leak_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, [pair(n, prompt=Prompt.of(pair(n).prompt.text)) for n in range(60)])
    folder = tmp_path / "split"
    counts = json.loads(fairlead_output("split", file, "--out", folder, "--validation", 0.2, "--eval", 0.2, "--json"))
    assert (counts["train"], counts["validation"], counts["eval"]) == (36, 12, 12)
    files = [folder / f"{name}.jsonl" for name in ("train", "validation", "eval")]
    proof = json.loads(fairlead_output("split", *files, "--verify", "--json"))
    assert proof["leaks"] == 0
    assert sum(proof["prompts"].values()) == 60
    with files[0].open("a") as train:
        train.write(files[2].read_text().splitlines()[0] + "\n")
    with pytest.raises(LeakError, match="1 prompts stand in two files"):
        fairlead_output("split", *files, "--verify")


@pytest.mark.parametrize(
    ("kind", "row"),
    [("prompts", {}), ("sft", {"answer": "b"}), ("preferences", {"chosen": "b", "rejected": "c"})],
)
def test_any_rows_are_split_by_number_or_share_and_the_next_step_is_said(
    tmp_path: Path, kind: str, row: dict[str, str]
) -> None:
    words = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu"
    near = [f"{words} question", f"{words} question nu"]
    file = tmp_path / "rows.csv"
    with file.open("w") as table:
        lines = csv.DictWriter(table, ["prompt", *row])
        lines.writeheader()
        lines.writerows({"prompt": text, **row} for text in [*near, *(f"question {n}" for n in range(38))])
    folder = tmp_path / "split"
    text = fairlead_output("split", file, "--eval", 0.1, "--dev", 15, "--out", folder)
    assert f"data: {{{kind}: {folder}/train.jsonl, dev: {folder}/dev.jsonl, eval: {folder}/eval.jsonl}}" in text
    parts = {name: read_prompts(folder / f"{name}.jsonl") for name in ("train", "dev", "eval")}
    assert {name: len(prompts) for name, prompts in parts.items()} == {"train": 21, "dev": 15, "eval": 4}
    assert sorted(p.text for prompts in parts.values() for p in prompts) == sorted(
        [*near, *(f"question {n}" for n in range(38))]
    )
    assert any({*near} <= {p.text for p in prompts} for prompts in parts.values())
    before = [(folder / f"{name}.jsonl").read_bytes() for name in parts]
    fairlead_output("split", file, "--eval", 0.1, "--dev", 15, "--out", folder)
    assert [(folder / f"{name}.jsonl").read_bytes() for name in parts] == before
    fairlead_output("split", file, "--eval", 0.1, "--dev", 15, "--out", folder, "--seed", 1)
    assert [(folder / f"{name}.jsonl").read_bytes() for name in parts] != before


def test_a_size_that_cannot_be_met_exactly_is_said(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n}", "cluster": f"c{n // 3}"} for n in range(12)]
    text = fairlead_output("split", row(tmp_path, *rows), "--eval", 4, "--out", tmp_path / "s")
    assert "stay together: eval has 3 prompts, not 4" in text


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (("--eval", "many"), "--eval: 'many' is no size — give a share of the prompts, as 0.1, or a number"),
        (("--dev", "1.5"), "--dev: '1.5' is no size"),
        (("--dev", "inf"), "--dev: 'inf' is no size"),
        (("--eval", "-1"), "--eval: '-1' is no size"),
        (("--dev", "9", "--eval", "0.1"), "--eval 0.1, --dev 9 leave nothing to train on — it has 10 distinct prompts"),
    ],
)
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, sizes: tuple[str, ...], message: str) -> None:
    file = row(tmp_path, *({"prompt": f"question {n}"} for n in range(10)))
    with pytest.raises(ConfigError, match=message):
        fairlead_output("split", file, *sizes, "--out", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_declared_cluster_in_two_files_is_a_leak(tmp_path: Path) -> None:
    one = written(tmp_path, [pair(0)], "one.jsonl")
    two = tmp_path / "two.jsonl"
    write_jsonl(two, [{"prompt": "Something else entirely", "cluster": pair(0).prompt.cluster}])
    with pytest.raises(LeakError, match="1 prompts"):
        fairlead_output("split", one, two, "--verify")


def test_verify_reads_prompts_examples_and_preferences(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.jsonl" for n in range(4)]
    write_jsonl(files[0], [{"prompt": "one thing"}])
    write_jsonl(files[1], [{"prompt": "two things", "answer": "a"}])
    turns = [{"role": "user", "content": "three things"}, {"role": "assistant", "content": "a"}]
    write_jsonl(files[2], [{"messages": turns}])
    write_jsonl(files[3], [{"prompt": "four things", "chosen": "a", "rejected": "b"}])
    assert json.loads(fairlead_output("split", *files, "--verify", "--json"))["prompts"] == dict.fromkeys(
        map(str, files), 1
    )


def test_near_duplicates_that_cannot_be_parted_are_said(tmp_path: Path) -> None:
    same = [pair(n, prompt=Prompt.of(f"question {n}", cluster="c")) for n in range(5)]
    with pytest.raises(DataError, match="nothing is left for eval"):
        fairlead_output("split", written(tmp_path, same), "--out", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_export_writes_for_others(tmp_path: Path) -> None:
    file = written(tmp_path, clean(5))
    assert "5 pairs" in fairlead_output("export", file, "--to", "parquet", "--out", tmp_path / "a.parquet")
    assert [p.id for p in read_preferences("a.parquet", tmp_path).preferences] == [p.id for p in clean(5)]


def test_show_puts_chosen_beside_rejected_with_the_reason(tmp_path: Path) -> None:
    steering = "x\x1b[2J[red]y"
    pairs = [
        *clean(2),
        pair(2, chosen=steering, rejected="nope", provenance=SAMPLED),
    ]
    text = fairlead_output("show", written(tmp_path, pairs), "--from", 3)
    assert "row 3" in text
    assert "row 1" not in text
    assert "\x1b" not in text
    assert "[red]y" in text
    line = next(line for line in text.splitlines() if "nope" in line)
    assert "x" in line, "chosen and rejected stand side by side"
    assert "reason: as told" in text
    assert "margin 1" in text


def test_the_alpaca_eval_files_import_with_their_published_counts(shared_data: Path) -> None:
    for name, wins, losses, draws in (("claude-2.1", 115, 688, 2), ("vicuna-7b-v1.5", 35, 767, 3)):
        imported = read_preferences(str(shared_data / f"alpaca_eval_{name}.jsonl"), Path())
        assert imported.outcomes == {"win": wins, "loss": losses, "draw": draws}
        # Draws make no pair; nor do two answers of one length, because the texts are x's of the answers' lengths here.
        assert {row.reason for row in imported.dropped} <= {"equal scores", "identical chosen and rejected"}
        assert len(imported.preferences) + len(imported.dropped) == 805


def test_export_and_show_say_what_was_left_out(tmp_path: Path) -> None:
    user, same = {"role": "user", "content": "hi", "name": "ann"}, [{"role": "assistant", "content": "a"}]
    other = [{"role": "assistant", "content": "b"}]
    file = row(
        tmp_path,
        {"prompt": [user], "chosen": same, "rejected": other},
        {"prompt": [user], "chosen": same, "rejected": same},
    )
    words = "1 rows left out (identical chosen and rejected: 1); fields of messages not read (name in 2 rows)"
    assert f"1 pairs → {tmp_path / 'a.jsonl'}; {words}" in fairlead_output(
        "export", file, "--out", tmp_path / "a.jsonl"
    )
    summary = json.loads(fairlead_output("export", file, "--out", tmp_path / "a.jsonl", "--json"))
    assert summary["dropped"] == {"identical chosen and rejected": 1}
    assert summary["ignored_fields"] == {"name": 2}
    result = runner.invoke(app, ["show", str(file)])
    assert words in " ".join(result.stderr.split())


def test_an_export_to_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, clean(2))
    for name in ("a.jsonl", "a.parquet"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
        form = "parquet" if name.endswith("parquet") else "trl"
        with pytest.raises(DiskError, match="is a symbolic link and is not replaced"):
            fairlead_output("export", file, "--to", form, "--out", tmp_path / name)
        assert (tmp_path / name).is_symlink()
