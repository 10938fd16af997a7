"""The examples of docs/python.md run, in the order of the page, and print what the page says."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.support.misbehaving import JudgeServer
from tests.support.projects import REPO

PAGE = (REPO / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n(?:```text\n(?P<printed>.*?)```\n)?", re.DOTALL)
ADDRESS = "http://localhost:8000/v1"


def test_the_examples_run_and_print_what_the_page_says(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = list(EXAMPLE.finditer(PAGE))
    assert len(examples) == 9
    assert sum(example["printed"] is not None for example in examples) == 5
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAIRLEAD_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tiny_model, "my-model")
    tokenizer = AutoTokenizer.from_pretrained("my-model")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] + eos_token }}{% endfor %}"
    tokenizer.save_pretrained("my-model")
    Path("prompts.jsonl").write_text(json.dumps({"prompt": "What is DPO?"}), encoding="utf-8")
    names: dict[str, Any] = {}
    with JudgeServer() as server:
        for example in examples:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(example["code"].replace(ADDRESS, server.base_url), "docs/python.md", "exec"), names)
            if example["printed"] is not None:
                assert printed.getvalue() == example["printed"]
    assert (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").count("\n") == 2


def test_the_page_names_every_built_in_criterion_and_every_public_function() -> None:
    import fairlead
    from fairlead.config.values.criteria import BUILT_IN

    assert {name for name in BUILT_IN if f"`{name}`" not in PAGE} == set()
    functions = {name for name in fairlead.__all__ if name.islower()}
    calls = ("evaluate_alignment", "score_answers", "build_preferences")
    assert functions == {"compare"} | {f"{name}{form}" for name in calls for form in ("", "_async")}
    assert {name for name in functions if name.removesuffix("_async") not in PAGE} == set()
