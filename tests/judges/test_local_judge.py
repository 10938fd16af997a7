"""Judges on this machine: a causal LM that is asked, a reward model that scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from fairlead.config.judges import LocalSettings
from fairlead.errors import JudgeError, ModelError
from fairlead.judges.base import Judge
from fairlead.judges.build import build_judge
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Answer, Comparison, Prompt, ScoreState, VerdictState
from tests.support.judging import answers, pairs


def judge_of(model: Path, ledger: ReplyStore | None = None, **settings: Any) -> Judge:
    section = {"kind": "local", "model": str(model), **settings}
    return build_judge(LocalSettings.model_validate(section), store=ledger, folder=model.parent)


def reward_model(folder: Path, tiny_model: Path, labels: int = 1) -> Path:
    """A reward model whose reward is the same for all texts but for its random weights."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        num_labels=labels,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_a_model_that_cannot_judge_gives_no_verdict(tiny_model: Path, ledger: ReplyStore) -> None:
    judge = judge_of(tiny_model, ledger, max_tokens=4, max_chars=100, pairwise_template=str(_short(tiny_model)))
    [verdict] = judge.compare(pairs(1))
    assert verdict.state in (VerdictState.UNREADABLE, VerdictState.FAILED)
    assert next(iter(ledger.replies())).endpoint == "local"


def test_the_same_question_is_answered_from_the_ledger(tiny_model: Path, ledger: ReplyStore) -> None:
    template = str(_short(tiny_model))
    first = list(judge_of(tiny_model, ledger, max_tokens=4, pairwise_template=template).compare(pairs(3)))
    stored = list(ledger.replies())
    again = list(judge_of(tiny_model, ledger, max_tokens=4, pairwise_template=template).compare(pairs(3)))
    assert again == first
    assert list(ledger.replies()) == stored


def _short(model: Path) -> Path:
    """A template that leaves room in the tiny model's context."""
    path = model.parent / "short.jinja"
    path.write_text("{{ fence }} {{ prompt }} {{ answer_a }} {{ answer_b }}", encoding="utf-8")
    return path


def test_a_question_too_long_for_the_model_fails_alone_and_all_failing_is_one_line(tiny_model: Path) -> None:
    long = [Comparison(Prompt.of(f"q{n}"), "word " * 400, "x") for n in range(3)]
    with pytest.raises(JudgeError, match="exceed the model's context") as raised:
        list(judge_of(tiny_model, max_tokens=4).compare(long))
    assert "lower max_chars or max_tokens" in str(raised.value)
    assert "base_url" not in str(raised.value), "there is none"


def test_a_reward_model_prefers_the_higher_reward(tmp_path: Path, tiny_model: Path) -> None:
    judge = judge_of(reward_model(tmp_path / "rm", tiny_model))
    items = [Comparison(Prompt.of("q"), "one answer", "the other answer, longer")]
    items.append(Comparison(items[0].prompt, items[0].second, items[0].first))
    there, back = judge.compare(items)
    assert {there.state, back.state} == {VerdictState.WIN, VerdictState.LOSS}
    assert there.margin == pytest.approx(back.margin, abs=1e-4)
    first, second = judge.score([Answer(items[0].prompt, items[0].first), Answer(items[0].prompt, items[0].second)])
    assert first.value is not None
    assert second.value is not None
    assert (first.value > second.value) == (there.state is VerdictState.WIN)
    assert 1 <= min(first.value, second.value) <= max(first.value, second.value) <= 10


def test_rewards_within_the_tie_margin_tie(tmp_path: Path, tiny_model: Path) -> None:
    judge = judge_of(reward_model(tmp_path / "rm", tiny_model), tie_margin=1e6)
    [verdict] = judge.compare([Comparison(Prompt.of("q"), "a", "b")])
    assert verdict.state is VerdictState.TIE


def test_the_reward_does_not_depend_on_the_batch(tmp_path: Path, tiny_model: Path) -> None:
    model = reward_model(tmp_path / "rm", tiny_model)
    items = [Answer(Prompt.of("q"), "word " * n) for n in (1, 9, 3, 20, 2)]
    alone = [score.value for score in judge_of(model, batch_size=1).score(items)]
    together = [score.value for score in judge_of(model, batch_size=5).score(items)]
    assert together == pytest.approx(alone, abs=1e-3)


def test_what_is_too_long_for_the_reward_model_has_no_score(tmp_path: Path, tiny_model: Path) -> None:
    judge = judge_of(reward_model(tmp_path / "rm", tiny_model))
    [short, long] = judge.score([*answers(1), Answer(Prompt.of("q"), "word " * 400)])
    assert short.state is ScoreState.SCORED
    assert (long.state, long.value) == (ScoreState.FAILED, None)


def test_a_classifier_with_several_outputs_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="has 3 outputs, a reward model has one"):
        judge_of(reward_model(tmp_path / "rm", tiny_model, labels=3))


def test_a_folder_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError):
        judge_of(tmp_path / "empty")
