"""SmolLM2 135M behind `transformers serve` as the project's judge: too weak to judge, and found to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.llm.store.reply_store import ReplyStore
from tests.support.commands import fairlead
from tests.support.projects import tiny_config, write_config
from tests.support.transformers_server import needs_server, served_model

pytestmark = needs_server

# Two examples, without which it copies the question; with the built-in question it does too.
PAIRWISE = """{% block system %}You are a judge. {{ fence }}{% endblock %}
{% block user %}Question: What is the colour of snow?
Answer A: Green.
Answer B: White.
Verdict: B

Question: How many legs has a dog?
Answer A: Four.
Answer B: Nine.
Verdict: A

Question: {{ prompt }}
Answer A: {{ answer_a }}
Answer B: {{ answer_b }}
Verdict:{% endblock %}
"""
LABELLED = (
    ("What is the capital of France?", "Paris.", "It is London."),
    ("What is two and two?", "Four.", "Two and two is a fish."),
    ("What do cows eat?", "Grass.", "Cows eat stones."),
)


def configure(folder: Path, url: str, model: Path) -> None:
    (folder / "pairwise.jinja").write_text(PAIRWISE, encoding="utf-8")
    rows = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in LABELLED]
    (folder / "labelled.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    judge = {
        "kind": "openai", "model": str(model), "base_url": url, "api_key_env": None, "max_tokens": 10,
        "pairwise_template": "pairwise.jinja", "concurrency": 2,
    }  # fmt: skip
    demands = {"labelled": "labelled.jsonl", "rows": 3, "probe_rows": 1}
    write_config(folder, tiny_config() | {"judge": judge, "judge_check": demands})


@pytest.mark.slow
def test_it_is_found_unfit_and_the_run_stops_before_anything_is_trained(smollm2: Path, tiny_project: Path) -> None:
    with served_model(smollm2) as url:
        configure(tiny_project, url, smollm2)
        checked = fairlead("judge", "check", "--project", str(tiny_project))
        assert checked.returncode == 5, checked.stderr
        print(checked.stdout)
        with ReplyStore.of_project(tiny_project) as store:
            replies = sum(row.replies for row in store.totals())
        ran = fairlead("run", str(tiny_project))
    print(ran.stderr)
    assert "qualified: no" in checked.stdout
    assert "pairs whose two orders agree" in checked.stdout
    assert ran.returncode == 3, ran.stderr
    assert "is not qualified: " in ran.stderr
    assert "max_canary_wins 0.05, measured " in ran.stderr
    assert "use a stronger judge or a panel" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "] judge_check: " in ran.stderr
    assert "] sft: " not in ran.stderr
    assert not list((tiny_project / ".fairlead").glob("**/*.safetensors"))
    with ReplyStore.of_project(tiny_project) as store:
        assert sum(row.replies for row in store.totals()) == replies, "the check of the run asks nothing a second time"
