"""YAML as people write it: what is read as what, and that whatever is refused is one line with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.config.loading.yaml_file import MAX_BYTES, parse_yaml, read_yaml
from fairlead.config.project import load_config
from fairlead.errors import ConfigError

BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: yes", "yes"),
        ("a: off", "off"),
        ("a: NO", "NO"),
        ("a: true", True),
        ("a: False", False),
        ("a: 2026-02-30", "2026-02-30"),
        ("a: 2026-02-28", "2026-02-28"),
        ("a: null", None),
        ("a: 0.5", 0.5),
        ("a: 12", 12),
        ("a: [1, {b: x}]", [1, {"b": "x"}]),
        ("x-common: &c {b: 1}\na: {<<: *c, d: 2}", {"b": 1, "d": 2}),
        ("x-common: &c {b: 1}\na: {<<: *c, b: 2}", {"b": 2}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    assert parse_yaml(text, where="f")["a"] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f:3: the key a stands twice, first in line 1"),
        ("a: {b: 1, b: 2}", "f:1: the key b stands twice, first in line 1"),
        ("a: 0b_", "f:1: '0b_' is not a valid int"),
        ('a: !!int ""', "f:1: '' is not a valid int"),
        ("b: 1\na: !!float x", "f:2: 'x' is not a valid float"),
        ("a: !!bool maybe", "f:1: 'maybe' is not a valid bool"),
        (f"a: {'9' * 5000}", "is not a valid int"),
        ("a: !!timestamp x", "the tag !!timestamp is not accepted"),
        ("a: !!python/object/apply:os.system [ls]", "is not accepted"),
        ("a: !!set {x}", "the tag !!set is not accepted"),
        ("a: " + "[" * 100_000, "f:1: nested more than 60 levels deep"),
        ("- " * 5_000, "f:1: nested more than 60 levels deep"),
        ("a: &a [*a]", "f:1: *a stands inside itself"),
        (BOMB, "holds more than 100,000 values"),
        (MERGE_BOMB, "holds more than 100,000 values"),
        ("? [a]\n: b", "f:1: a key must be a word"),
        ('a: "\\UFFFFFFFF"', "f:1: not YAML"),
        ("a: 'x", "f:1: not YAML"),
        ("a: 1\nb: \x07", "f:2: not YAML: special characters are not allowed (#x0007)"),
        ("a: *nobody", "f:1: not YAML: found undefined alias"),
        ("a: 1\n---\na: 2", "f:2: not YAML: expected a single document in the stream"),
        ("a: {<<: 5}", "f:1: not YAML"),
    ],
)
def test_what_is_refused_is_one_short_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, where="f")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "fairlead.yaml"
    path.write_text("#" * MAX_BYTES + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="250,001 bytes, at most 250,000 are read"):
        read_yaml(path)


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "fairlead.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_yaml(path) == {"name": "x"}


def test_what_is_not_utf8_is_one_line_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "fairlead.yaml").write_bytes(b"seed: 1\nname: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"fairlead\.yaml:2: not UTF-8"):
        load_config(tmp_path)


@pytest.mark.parametrize("text", ["", "- 1", "5"])
def test_the_config_is_a_mapping(tmp_path: Path, text: str) -> None:
    (tmp_path / "fairlead.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="must be a mapping"):
        load_config(tmp_path)
