"""docs/architecture.md names the stages, files, rooms and fields that there are."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import import_module

from fairlead.config.project import Config
from fairlead.documents.report import Report, TableRow
from fairlead.pipeline.graph import ALL, IMPORTED
from tests.support.projects import REPO, tiny_config

PAGE = (REPO / "docs" / "architecture.md").read_text(encoding="utf-8")
SOURCE = REPO / "src" / "fairlead"


def section(title: str) -> str:
    """The text below a heading."""
    return PAGE.split(f"\n## {title}")[1].split("\n## ")[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of the tables in a text."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def every_config() -> list[Config]:
    """Configs with which, together, every stage reads all that it may read."""
    tiny = tiny_config()
    ready = {**tiny, "data": {"sft": "s", "eval": "e", "preferences": "p"}}
    measured = {"loss_type": ["sigmoid"], "label_noise": "measured"}
    full = {
        **tiny,
        "decide": {"targets": [{"metric": "length", "at_least": 0.5}]},
        "sample": {"few_shot": 2},
        "data_check": {"drop": ["eval_overlap"]},
        "dpo": {**tiny["dpo"], **measured},
    }
    return [Config.model_validate(config) for config in (tiny, ready, full)]


def test_the_table_of_stages_is_the_graph() -> None:
    documented = {code(cells[0])[0]: cells for cells in rows(section("The stages"))}
    assert list(documented) == [stage.name for stage in ALL]
    configs = every_config()
    for stage in ALL:
        _, function, reads, makes = documented[stage.name]
        module = stage.function.partition(":")[0].removeprefix("fairlead.").replace(".", "/")
        assert code(function) == [f"{module}.py"]
        declared = {str(output) for config in configs for output in stage.inputs_for(config)}
        assert {name for name in code(reads) if "/" in name} == declared, stage.name
        assert code(makes) == [output.name for output in (*stage.outputs, *stage.records)], stage.name


def test_the_table_of_imported_stages_is_the_graph() -> None:
    documented = {code(cells[0])[0]: cells for cells in rows(section("Models made elsewhere"))}
    assert list(documented) == [stage.name for stage in IMPORTED]
    for stage in IMPORTED:
        _, function, reads, makes = documented[stage.name]
        module = stage.function.partition(":")[0].removeprefix("fairlead.").replace(".", "/")
        assert code(function) == [f"{module}.py"]
        assert [name for name in code(reads) if "/" in name] == [str(output) for output in stage.inputs]
        assert code(makes) == [output.name for output in (*stage.outputs, *stage.records)], stage.name


def test_the_table_of_rooms_is_the_layers_and_the_folders() -> None:
    documented = [code(cells[0]) for cells in rows(section("Rooms"))]
    contract = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [re.findall(r"\w+", layer) for layer in contract["contracts"][0]["layers"]]
    assert documented == layers
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - {"__init__"} == {room for layer in layers for room in layer}


def test_every_file_that_the_page_names_is_there() -> None:
    named = {name for name in code(PAGE) if re.fullmatch(r"[\w/]+\.py", name) and "/" in name}
    assert len(named) > 25
    assert {name for name in named if not (SOURCE / name).is_file()} == set()
    folders = {name for name in code(section("The path of one preference pair")) if name.endswith("/")}
    assert {name for name in folders if name != "src/fairlead/" and not (SOURCE / name).is_dir()} == set()


def test_what_the_page_says_is_to_be_found_is_there() -> None:
    answers = section("Where to find")
    assert answers.count("?") == 5
    functions = re.findall(r"`([\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", answers)
    assert len(functions) == 7
    for file, names in functions:
        module = import_module(f"fairlead.{file.removesuffix('.py').replace('/', '.')}")
        for name in code(names):
            assert getattr(module, name).__module__ == module.__name__


def test_no_file_is_long_and_no_folder_is_full() -> None:
    benchmarks = [path for path in (REPO / "benchmarks").rglob("*.py") if "out" not in path.parts]
    files = [*SOURCE.rglob("*.py"), *benchmarks]
    assert len(files) > 200
    assert len(benchmarks) > 20
    long = {path.relative_to(REPO).as_posix(): n for path in files if (n := len(path.read_text().splitlines())) > 350}
    assert long == {}
    full = {folder for folder in {path.parent for path in files} if len(list(folder.glob("*.py"))) > 16}
    assert full == set()


def test_the_table_of_the_report_is_its_type() -> None:
    documented = {name for cells in rows(section("`report.json`")) for name in code(cells[0])}
    published = {field.alias or name for name, field in Report.model_fields.items()}
    assert documented == published
    table = next(cells[1] for cells in rows(section("`report.json`")) if cells[0] == "`table`")
    assert set(code(table)) - {"sft_over_base"} <= {field.alias or n for n, field in TableRow.model_fields.items()}
