"""The docs agree with the code: the page of all keys is the generated one, examples load, links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fairlead.checks import build_check
from fairlead.config.checks import FunctionCheck
from fairlead.config.project import CONFIG_NAME, Config, load_config
from fairlead.config.reference.json_schema import config_schema
from fairlead.config.reference.page import config_page
from fairlead.statistics.power import smallest_detectable_difference, win_rate_sd
from tests.support.docs import PAGES, Block, anchors, blocks, links, merged
from tests.support.projects import REPO, write_config

DOCS = REPO / "docs"
EXAMPLES = [block for page in PAGES for block in blocks(page) if block.language == "yaml"]
SCHEMA = jsonschema.Draft7Validator(config_schema())
# What an example leaves out; its metrics are those that the gates of the examples name.
AROUND: dict[str, Any] = {
    "model": {"name": "model"},
    "data": {"sft": "sft.jsonl", "prompts": "prompts.jsonl", "eval": "eval.jsonl"},
    "decide": {"waive": "an example of the docs"},
    "judge": {"kind": "openai", "model": "gpt-4.1"},
    "eval": {"metrics": [{"kind": "length", "name": "format", "max_words": 9}]},
}


def test_the_page_of_all_keys_is_what_the_types_say() -> None:
    assert (DOCS / "config.md").read_text(encoding="utf-8") == config_page(), "run make docs"


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_an_example_is_accepted_by_the_reader_and_by_the_schema(block: Block, tmp_path: Path) -> None:
    example = yaml.safe_load(block.text)
    config = merged(AROUND, example)
    if "preferences" in example.get("data", {}) or "from" in example.get("dpo", {}):  # then no pairs are built
        del config["data"]["prompts"]
    if "prompted" in example.get("eval", {}).get("arms", []):  # which a waived decision does not have
        del config["decide"]
    write_config(tmp_path, config)
    load_config(tmp_path)
    assert list(SCHEMA.iter_errors(config)) == []


def test_every_example_of_a_config_is_found() -> None:
    """One that is only indented would not be read by the test above."""
    assert len(EXAMPLES) > 35
    indented = [block for page in PAGES for block in blocks(page) if block.language == ""]
    begins_like_a_config = re.compile(r"(?:#.*\n)*(\w+):(?: |\n)")
    keys = [(block, match[1]) for block in indented if (match := begins_like_a_config.match(block.text))]
    assert [str(block) for block, key in keys if key in Config.model_fields and block.page != "README.md"] == []


def test_the_whole_file_on_the_page_needs_nothing_around_it(tmp_path: Path) -> None:
    first = next(block for block in EXAMPLES if block.page == "config.md")
    (tmp_path / CONFIG_NAME).write_text(first.text, encoding="utf-8")
    assert load_config(tmp_path).decide.targets


def test_the_function_on_the_page_is_a_check(tmp_path: Path) -> None:
    [source] = [block.text for block in blocks(DOCS / "config.md") if block.language == "python"]
    (tmp_path / "checks.py").write_text(source, encoding="utf-8")
    check = build_check(FunctionCheck(kind="function", name="polite", function="checks.py:polite"), tmp_path)
    assert (check("Thank you.", {}), check("No.", {}), check("", {})) == (1, 0, None)
    assert check("Bonjour", {"greeting": "bonjour"}) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_there_are(page: Path) -> None:
    broken = []
    for target in links(page):
        file, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        linked = (page.parent / file).resolve() if file else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_two_headings_of_a_page_that_is_linked_into_share_an_anchor(page: Path) -> None:
    linked = {target.partition("#")[2] for other in PAGES for target in links(other) if _leads_to(target, other, page)}
    assert {anchor for anchor in linked if anchor and anchors(page).count(anchor) > 1} == set()


def test_the_win_rates_that_a_number_of_prompts_can_show_are_those_of_the_code() -> None:
    page = (DOCS / "first-hour.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) % \| ([\d.]+) % \|$", page, re.MULTILINE)
    assert len(rows) == 6
    for prompts, *documented in rows:
        for share_of_ties, rate in zip((0.0, 0.5), documented, strict=True):
            difference = smallest_detectable_difference(int(prompts.replace(",", "")), win_rate_sd(share_of_ties))
            assert difference is not None
            assert f"{50 + 100 * difference:.1f}" == rate


def test_every_page_stands_in_the_menu_of_the_site_and_on_its_first_page() -> None:
    site = tomllib.loads((REPO / "zensical.toml").read_text(encoding="utf-8"))["project"]
    menu = [
        page
        for part in site["nav"]
        for pages in part.values()
        for page in ([pages] if isinstance(pages, str) else pages)
    ]
    pages = {page.name for page in DOCS.glob("*.md")}
    assert sorted(menu) == sorted(pages)
    assert pages - {"index.md"} <= set(links(DOCS / "index.md"))


def _leads_to(target: str, source: Path, page: Path) -> bool:
    file = target.partition("#")[0]
    return not re.match(r"\w+:", target) and ((source.parent / file).resolve() if file else source) == page
