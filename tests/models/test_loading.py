"""Models, tokenizers and templates that cannot be used are one clear line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from fairlead.config.model import ModelSection
from fairlead.errors import ModelError
from fairlead.models.adapters import ModelVariant, VariantLoader
from fairlead.models.chat import conversation_tokens, prompt_tokens
from fairlead.models.loading import load_adapter, load_base, load_tokenizer, locate
from fairlead.records import Message, Prompt


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_weights_that_are_cut_short_are_one_line(model: Path) -> None:
    cut_short(model / "model.safetensors")
    with pytest.raises(ModelError, match=r"its weights are damaged: .*copy or download the model again"):
        load_base(ModelSection(name=str(model)), model)


def test_an_adapter_that_is_cut_short_is_one_line(model: Path, tmp_path: Path) -> None:
    section = ModelSection(name=str(model))
    for name in ("sft", "dpo"):
        config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        get_peft_model(load_base(section, model), config).save_pretrained(str(tmp_path / name))
    cut_short(tmp_path / "dpo" / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"the adapter's weights are damaged: .*train it again"):
        load_adapter(load_base(section, model), tmp_path / "dpo")
    variants = {name: ModelVariant(adapter=tmp_path / name) for name in ("sft", "dpo")}
    loader = VariantLoader(section, model, variants)  # type: ignore[arg-type]
    with loader.use("sft"), pytest.raises(ModelError, match="the adapter's weights are damaged"), loader.use("dpo"):
        pass
    (tmp_path / "dpo" / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelError, match="the adapter does not fit the base model"):
        load_adapter(load_base(section, model), tmp_path / "dpo")


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"', "{", ""])
def test_a_config_that_is_no_object_is_one_line(model: Path, content: str) -> None:
    (model / "config.json").write_text(content)
    for load in (load_base, load_tokenizer):
        with pytest.raises(ModelError, match=r"config\.json"):
            load(ModelSection(name=str(model)), model)
    with pytest.raises(ModelError, match=r"its config\.json"):
        locate(str(model), model)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_is_no_object_is_one_line(model: Path, name: str) -> None:
    (model / name).write_text("[]")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_tokenizer(ModelSection(name=str(model)), model)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for message in messages %}", "its chat template is not valid Jinja: line 1"),
        ("{{ raise_exception('no turns here') }}", "its chat template fails on turns of user: no turns here"),
        ("{{ messages[0]['content'] + 3 }}", "its chat template fails on turns of user"),
        ("{{ messages[5].content.upper() }}", "its chat template fails on turns of user"),
        ("{{ 1 / 0 }}", "its chat template fails on turns of user: division by zero"),
    ],
)
def test_a_template_that_fails_on_a_plain_question_is_refused_when_it_is_loaded(
    model: Path, template: str, message: str
) -> None:
    (model / "template.jinja").write_text(template)
    with pytest.raises(ModelError, match=message) as refused:
        load_tokenizer(ModelSection(name=str(model), chat_template="template.jinja"), model)
    assert "template.jinja" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_turns_that_a_template_refuses_are_one_line(model: Path) -> None:
    (model / "template.jinja").write_text(
        "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('System role not "
        "supported') }}{% endif %}{{ message.content }}{% endfor %}"
    )
    tokenizer = load_tokenizer(ModelSection(name=str(model), chat_template="template.jinja"), model)
    plain, instructed = Prompt.of("a"), Prompt((Message("system", "Be brief."), Message("user", "a")))
    assert prompt_tokens(plain, tokenizer)
    with pytest.raises(
        ModelError, match=r"fails on turns of system, user: System role not supported.*model\.chat_templ"
    ):
        prompt_tokens(instructed, tokenizer)
    with pytest.raises(ModelError, match="fails on turns of system, user, assistant"):
        conversation_tokens(instructed, "b", tokenizer)


def test_code_of_a_repository_is_not_run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anybody asked whether it may be."""
    ran = tmp_path / "ran"
    config = (model / "config.json").read_text()
    maps = '"auto_map": {"AutoModelForCausalLM": "code.Model", "AutoConfig": "code.Config"}'
    (model / "config.json").write_text(config.replace('"model_type": "llama"', f'"model_type": "other", {maps}'))
    (model / "code.py").write_text(f"open({str(ran)!r}, 'w').close()")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_base(ModelSection(name=str(model)), model)
    assert not ran.exists()


def test_loaded_weights_are_those_of_the_file(model: Path) -> None:
    loaded = load_base(ModelSection(name=str(model), dtype="float32"), model)
    stored = load_file(model / "model.safetensors")
    assert torch.equal(loaded.get_input_embeddings().weight, stored["model.embed_tokens.weight"])
