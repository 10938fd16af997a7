"""A server that others wrote: `transformers serve`, with a model of random weights; it cannot judge."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from fairlead.llm.store.reply_store import ReplyStore
from fairlead.models.loading import PLAIN_TEMPLATE
from fairlead.records import VerdictState
from tests.support.judging import openai_judge, pairs
from tests.support.transformers_server import needs_server, served_model

pytestmark = needs_server


@pytest.fixture(scope="module")
def served(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URL and model name of a server of this test run's own."""
    model = tmp_path_factory.mktemp("served") / "model"
    shutil.copytree(tiny_model, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = PLAIN_TEMPLATE.replace("{{ bos }}", "")
    tokenizer.save_pretrained(model)
    with served_model(model) as url:
        yield url, str(model)


@pytest.mark.slow
def test_its_replies_are_read_kept_and_not_asked_for_twice(
    served: tuple[str, str], ledger: ReplyStore, tmp_path: Path
) -> None:
    url, model = served
    (tmp_path / "short.jinja").write_text("{{ fence }} {{ prompt }} {{ answer_a }} {{ answer_b }}")
    (tmp_path / "again.jinja").write_text("{% block user %}Again as JSON.{% endblock %}")
    settings = {
        "model": model, "max_tokens": 8, "timeout_s": 60.0, "concurrency": 2, "pairwise_template": "short.jinja",
        "correction_template": "again.jinja",
    }  # fmt: skip
    first = list(openai_judge(url, ledger, tmp_path, **settings).compare(pairs(3)))
    assert [verdict.state for verdict in first] == [VerdictState.UNREADABLE] * 3
    stored = list(ledger.replies())
    assert len(stored) == 6, "every question, and its correction"
    assert all(reply.output_tokens and reply.input_tokens for reply in stored)
    assert list(openai_judge(url, ledger, tmp_path, **settings).compare(pairs(3))) == first
    assert list(ledger.replies()) == stored
