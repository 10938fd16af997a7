"""Models that were made elsewhere, compared without a project: a folder, an adapter of plain PEFT, an endpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import fairlead
from fairlead.errors import FairleadError
from fairlead.standalone.answering import load
from tests.support.commands import fairlead as command
from tests.support.misbehaving import JudgeServer

PROMPTS = [f"report {n} of the disk" for n in range(8)]
SHORT = {"kind": "length", "name": "short", "max_words": 3}
FORM = {"kind": "regex", "name": "form", "pattern": "severity: high"}


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path) -> Path:
    """An adapter made with plain PEFT that moves the model."""
    torch.manual_seed(0)
    policy = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(r=4, target_modules="all-linear")
    )
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    policy.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_folder_an_adapter_and_an_endpoint_are_compared(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    with JudgeServer(brain=lambda messages: "severity: high") as server:
        arms = {
            "base": str(tiny_model),
            "theirs": f"{tiny_model}+{adapter}",
            "hosted": f"openai:m@{server.base_url}",
        }

        def once() -> Any:
            return fairlead.compare(
                PROMPTS, arms, metrics=[SHORT, FORM], max_new_tokens=8, folder=tmp_path, progress=False
            )

        compared = once()
        assert server.stats.paid == len(PROMPTS)
        again = once()
        assert server.stats.paid == len(PROMPTS), "answers of finished arms are kept"
    assert again == compared
    assert compared.models == dict.fromkeys(arms, len(PROMPTS))
    assert compared.arms["hosted"].metrics["form"].value == 1
    assert compared.arms["base"].metrics["form"].value == 0
    assert compared.arms["base"].input_tokens == compared.arms["theirs"].input_tokens
    assert compared.arms["theirs"].what == arms["theirs"]
    (form,) = [row for row in compared.table if (row.metric, row.first, row.second) == ("form", "base", "hosted")]
    assert (form.delta, form.n) == (-1, len(PROMPTS))
    pairs = {(row.first, row.second) for row in compared.table}
    assert pairs == {("base", "theirs"), ("base", "hosted"), ("theirs", "hosted")}
    assert any(caveat.name == "repeated_answer" and "hosted" in caveat.text for caveat in compared.warnings)


def test_an_arm_answers_as_its_weights_say(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    model, tokenizer = load(str(tiny_model), str(adapter))

    def by_hand(prompt: str) -> str:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        said = model.generate(input_ids=ids, do_sample=False, max_new_tokens=8, pad_token_id=tokenizer.pad_token_id)
        return str(tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True))

    arms = {"by_hand": by_hand, "theirs": f"{tiny_model}+{adapter}", "base": str(tiny_model)}
    compared = fairlead.compare(
        PROMPTS, arms, metrics=[SHORT], judge=None, max_new_tokens=8, folder=tmp_path, progress=False
    )
    rubric = {"kind": "rubric", "checks": [SHORT]}
    judged = fairlead.compare(PROMPTS, arms, rubric, max_new_tokens=8, folder=tmp_path, progress=False)
    assert judged.pairwise["by_hand_vs_theirs"].states["tie"] == len(PROMPTS)
    assert judged.strengths is not None
    assert compared.arms["by_hand"].input_tokens is None, "a function does not tell"
    assert compared.answers["by_hand"].most_common == compared.answers["theirs"].most_common
    assert compared.answers["base"].most_common != compared.answers["theirs"].most_common


def test_the_command_shows_every_arm(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "eval.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS), encoding="utf-8")
    said = command(
        "compare", "--prompts", str(prompts), "--arm", f"base={tiny_model}", "--arm", f"theirs={tiny_model}+{adapter}",
        "--metric", "{kind: length, name: short, max_words: 3}", "--max-new-tokens", "8", "-C", str(tmp_path),
        "--out", str(tmp_path / "comparison.json"),
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert "base over theirs" in said.stdout
    assert "tokens read" in said.stdout
    assert json.loads((tmp_path / "comparison.json").read_text())["arms"].keys() == {"base", "theirs"}


@pytest.mark.parametrize(
    ("arms", "options", "said"),
    [
        ({"a": "MODEL"}, {}, "one arm is not enough"),
        ({"a": "MODEL", "b": "nowhere/at/all"}, {}, "nowhere/at/all"),
        ({"a": "MODEL", "b": "MODEL+MODEL"}, {}, "is no PEFT adapter"),
        ({"a": "MODEL", "b": "openai:m@nonsense"}, {}, "arms: b: endpoint.base_url"),
        ({"a": "MODEL", "b": {"endpoint": {"kind": "openai"}}}, {}, "endpoint.model"),
        ({"a": "MODEL", "b": "MODEL"}, {"metrics": []}, "neither a judge nor a metric"),
        ({"a": "MODEL", "b": "MODEL"}, {"metrics": [{"kind": "regexp"}]}, "metrics"),
        ({"a": "MODEL", "b": lambda prompt: None}, {}, "gave no answer to any prompt"),
    ],
)
def test_a_wrong_arm_is_one_line(
    tiny_model: Path, tmp_path: Path, arms: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    named = {name: arm.replace("MODEL", str(tiny_model)) if isinstance(arm, str) else arm for name, arm in arms.items()}
    settings = {"metrics": [SHORT], "max_new_tokens": 4, **options}
    with pytest.raises(FairleadError, match=said) as error:
        fairlead.compare(PROMPTS, named, folder=tmp_path, progress=False, **settings)
    assert "\n" not in str(error.value)


def test_an_adapter_of_another_base_is_one_line(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    config = json.loads((other / "config.json").read_text())
    config["hidden_size"] *= 2
    config["intermediate_size"] *= 2
    (other / "config.json").write_text(json.dumps(config))
    from transformers import AutoConfig

    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(other)).save_pretrained(other)
    with pytest.raises(FairleadError, match="adapter") as error:
        fairlead.compare(
            PROMPTS, {"a": str(tiny_model), "b": f"{other}+{adapter}"}, metrics=[SHORT], max_new_tokens=4,
            folder=tmp_path, progress=False,
        )  # fmt: skip
    assert "\n" not in str(error.value)


def test_an_endpoint_that_goes_down_halfway_is_asked_for_the_rest_alone(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.llm.retry._FIRST_WAIT_S", 0.02)
    said: list[int] = []

    def brain(messages: Any) -> str:
        said.append(1)
        return "severity: high"

    with JudgeServer(brain=brain) as server:
        endpoint = {"kind": "openai", "model": "m", "base_url": server.base_url, "max_retries": 0, "concurrency": 1}
        arms = {"base": str(tiny_model), "hosted": {"endpoint": endpoint, "system": "Triage."}}
        server.override = lambda body, headers: (400, {}, "{}") if len(said) >= 4 else None

        def once() -> Any:
            return fairlead.compare(PROMPTS, arms, metrics=[FORM], max_new_tokens=8, folder=tmp_path, progress=False)

        assert once().unanswered == {"hosted": 4}
        server.override = lambda body, headers: None
        assert once().unanswered == {}
        assert server.stats.repeated == 0
        assert len(said) == len(PROMPTS)
