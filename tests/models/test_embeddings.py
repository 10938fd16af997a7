"""Embeddings: pooled as the model's own config says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from fairlead.config.decide import EmbeddingSettings
from fairlead.errors import ModelError
from fairlead.models.embeddings import Encoder

TEXTS = ["the disk is full", "the disk", "the service is down again", "down"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that transformers wrote, which knows nothing of pooling."""
    words = ["[PAD]", "[UNK]", *sorted({word for text in [*TEXTS, "query: passage:"] for word in text.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
        )
    )
    folder = tmp_path_factory.mktemp("encoders") / "bert"
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cls_model(bert: Path) -> Path:
    """The same with a sentence-transformers config: the first token's state, and prompts of its own."""
    modules = [Transformer(str(bert)), Pooling(16, "cls")]
    model = SentenceTransformer(modules=modules, prompts={"query": "query: ", "document": "passage: "}, device="cpu")
    folder = bert.parent / "cls"
    model.save(str(folder))
    return folder


def hidden_states(folder: Path, text: str) -> torch.Tensor:
    """(tokens, size) of transformers' own model."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    with torch.no_grad():
        states: torch.Tensor = (
            BertModel.from_pretrained(folder)
            .eval()(input_ids=torch.tensor([tokenizer(text)["input_ids"]]))
            .last_hidden_state[0]
        )
    return states


def unit(vector: torch.Tensor) -> np.ndarray:
    return (vector / vector.norm()).numpy()


def test_the_pooling_of_the_models_config_is_used(bert: Path, cls_model: Path) -> None:
    vectors = Encoder(EmbeddingSettings(model=str(cls_model), batch_size=2), bert)(TEXTS, False)
    for text, vector in zip(TEXTS, vectors, strict=True):
        states = hidden_states(bert, f"passage: {text}")
        assert np.allclose(vector, unit(states[0]), atol=1e-5)
        assert not np.allclose(vector, unit(states.mean(0)), atol=1e-2), "mean pooling would be another vector"


def test_texts_that_search_have_the_models_prompt_or_the_configs(bert: Path, cls_model: Path) -> None:
    encoder = Encoder(EmbeddingSettings(model=str(cls_model)), bert)
    assert np.allclose(encoder(TEXTS[:1], True)[0], unit(hidden_states(bert, f"query: {TEXTS[0]}")[0]), atol=1e-5)
    prefixed = Encoder(EmbeddingSettings(model=str(cls_model), query_prefix="down ", passage_prefix="again "), bert)
    assert np.allclose(prefixed(TEXTS[:1], True)[0], unit(hidden_states(bert, f"down {TEXTS[0]}")[0]), atol=1e-5)
    assert np.allclose(prefixed(TEXTS[:1], False)[0], unit(hidden_states(bert, f"again {TEXTS[0]}")[0]), atol=1e-5)


def test_a_plain_folder_is_pooled_by_the_librarys_rule_and_that_is_said(
    bert: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vector = Encoder(EmbeddingSettings(model=str(bert)), bert)(TEXTS[:1], False)[0]
    assert np.allclose(vector, unit(hidden_states(bert, TEXTS[0]).mean(0)), atol=1e-5)
    Encoder(EmbeddingSettings(model=str(tiny_model)), bert)
    messages = [
        record.getMessage() for record in caplog.records if "has no sentence-transformers config" in record.message
    ]
    assert [message.rsplit(" is ", 1)[1] for message in messages] == [
        "the mean of the tokens' states",
        "the state of the last token",
    ]


def test_a_configured_model_says_nothing(cls_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    Encoder(EmbeddingSettings(model=str(cls_model)), cls_model)
    assert "sentence-transformers config" not in caplog.text


def test_without_the_extra_one_line_says_what_to_install(cls_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModelError, match=r"decide\.embedding.*pip install 'fairlead\[embeddings\]'"):
        Encoder(EmbeddingSettings(model=str(cls_model)), cls_model)


def test_modules_that_are_code_of_the_folder_are_not_run(cls_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((cls_model / "config.json").read_text())
    (tmp_path / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "mine.Module"}]')
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Module: ...\n")
    with pytest.raises(ModelError, match="cannot be loaded") as refused:
        Encoder(EmbeddingSettings(model=str(tmp_path)), tmp_path)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists()
