"""Every key is described for readers and for editors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fairlead.config.project import CONFIG_NAME, load_config, parse_config
from fairlead.config.reference.editor import EDITOR_LINE, SCHEMA_FILE, refresh_schema, write_config
from fairlead.config.reference.json_schema import config_schema
from fairlead.config.reference.page import all_sections, config_page
from fairlead.config.template import template
from fairlead.report.json_schema import report_schema
from fairlead.starters.write import EXAMPLES
from tests.support.projects import REPO, tiny_config
from tests.support.reports import stored_report

STARTERS = REPO / "src" / "fairlead" / "starters"
CONFIGS = {
    **{example: STARTERS / "examples" / example / CONFIG_NAME for example in EXAMPLES},
    "short": STARTERS / "short.yaml",
    "demo": REPO / "src" / "fairlead" / "demo" / CONFIG_NAME,
    "advisories": REPO / "examples" / "advisories" / CONFIG_NAME,
}
SCHEMA = jsonschema.Draft7Validator(config_schema())


def refusals(**sections: Any) -> list[str]:
    """Where the schema refuses a config."""
    config = tiny_config()
    for name, value in sections.items():
        config[name] = {**config.get(name, {}), **value} if isinstance(value, dict) else value
    return [".".join(map(str, error.absolute_path)) for error in SCHEMA.iter_errors(config)]


def test_every_key_has_a_row_with_its_type_bounds_and_default() -> None:
    page = config_page()
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) == sum(len(section.model_fields) for section in all_sections()) > 250
    assert ("beta", "number (above 0)", "`0.1`") in {row[:3] for row in rows}
    assert ("max_kl", "number (above 0) or `null`", "`null`") in {row[:3] for row in rows}
    assert ("ks", "list of integers (1 or more) (not empty, none twice)", "`[3]`") in {row[:3] for row in rows}
    assert ("metrics", "list of [checks](#checks)", "`[]`") in {row[:3] for row in rows}
    assert ("eval", "path", "required") in {row[:3] for row in rows}
    assert "table.&lt;metric>.dpo" in page
    without_text = [row for row in rows if not row[3].strip()]
    assert without_text == []


@pytest.mark.parametrize("section", ["sft", "dpo"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_default_that_follows_the_method_is_the_one_on_the_page(section: str, method: str) -> None:
    config = parse_config({**tiny_config(), section: {"method": method}})
    trained = getattr(config, section)
    documented = dict(re.findall(r"`([\d.e-]+)` with `(\w+)`", type(trained).filled_in["learning_rate"]))
    assert {name: float(rate) for rate, name in documented.items()}[method] == trained.learning_rate


def test_the_schemas_are_schemas() -> None:
    for schema in (config_schema(), report_schema()):
        assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
        jsonschema.Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_schema_accepts_the_configs_of_the_repository(name: str) -> None:
    assert list(SCHEMA.iter_errors(yaml.safe_load(CONFIGS[name].read_text(encoding="utf-8")))) == []


def test_the_schema_accepts_the_config_with_every_key() -> None:
    assert list(SCHEMA.iter_errors(yaml.safe_load(template()))) == []


def test_the_schema_accepts_what_the_reader_does() -> None:
    assert refusals(judge="openai:gpt-4.1@http://localhost:8000/v1") == []
    assert refusals(sft={"from": "org/our-sft"}) == ["sft"], "beside the keys of a training"
    assert refusals(eval={"criteria": ["helpfulness", {"name": "tone", "text": "tone"}]}) == []
    assert refusals(eval={"criteria": {"helpfulness": None, "tone": "tone"}}) == []
    assert refusals(sft=None, probe=None, dpo={"learning_rate": None}) == []
    assert refusals(**{"x-anchors": {"any": "thing"}}) == []


def test_the_schema_refuses_unknown_keys_wrong_types_and_values_out_of_bounds() -> None:
    assert refusals(dpo={"betta": 1}) == ["dpo"]
    assert refusals(dpo={"beta": 0}) == ["dpo"]
    assert refusals(lora={"alpha": "strong"}) == ["lora.alpha"]
    assert refusals(lora={"alpha": 0}) == ["lora.alpha"]
    assert refusals(seed=2**32) == ["seed"]
    assert refusals(sample={"temperatures": [0.7, 0.7]}) == ["sample.temperatures"]
    assert refusals(eval={"pairwise": ["dpo over sft"]}) == ["eval.pairwise"]
    assert refusals(judge="gpt-4.1") == ["judge"]
    assert refusals(unknown={}) == [""]


def test_the_schema_describes_keys_to_editors() -> None:
    beta = config_schema()["$defs"]["DpoSection"]["properties"]["beta"]
    assert beta == {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.1,
        "description": "strength of the tie to the reference; 0.01 loose, 1.0 hardly any change",
    }


def test_a_report_meets_its_schema_and_one_without_a_field_does_not() -> None:
    validator = jsonschema.Draft7Validator(report_schema())
    report = stored_report()
    assert list(validator.iter_errors(report)) == []
    for key in ("schema", "pairwise"):
        lacking = {name: value for name, value in report.items() if name != key}
        assert [error.validator for error in validator.iter_errors(lacking)] == ["required"]
    assert [error.validator for error in validator.iter_errors({**report, "schema": 2})] == ["const"]


def test_the_report_of_a_finished_project_meets_its_schema(finished: Path) -> None:
    report = json.loads((finished / "report" / "report.json").read_text(encoding="utf-8"))
    assert list(jsonschema.Draft7Validator(report_schema()).iter_errors(report)) == []


def test_a_config_that_is_written_names_the_schema_beside_it(tmp_path: Path) -> None:
    path = write_config(tmp_path, template())
    text = path.read_text(encoding="utf-8")
    assert text == EDITOR_LINE + template()
    assert write_config(tmp_path, text).read_text(encoding="utf-8") == text
    named = text.splitlines()[0].partition("$schema=")[2]
    assert json.loads((tmp_path / named).read_text(encoding="utf-8")) == config_schema()
    load_config(tmp_path)


def test_a_schema_of_another_version_is_replaced_where_the_config_names_it(tmp_path: Path) -> None:
    write_config(tmp_path, template())
    schema = tmp_path / SCHEMA_FILE
    fresh = schema.read_text(encoding="utf-8")
    schema.write_text("{}", encoding="utf-8")
    refresh_schema(tmp_path)
    assert schema.read_text(encoding="utf-8") == fresh
    schema.unlink()
    refresh_schema(tmp_path)
    assert schema.is_file()
    (tmp_path / CONFIG_NAME).write_text(template(), encoding="utf-8")
    schema.unlink()
    refresh_schema(tmp_path)
    assert not schema.exists()
