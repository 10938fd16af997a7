"""Training settings that cannot work are refused when the config is read, in one line that names the key."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trl
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from fairlead.config.project import parse_config
from fairlead.config.training import LOSSES, TRACKERS
from fairlead.errors import ConfigError
from tests.support.projects import tiny_config


def refusal(key: str, value: Any) -> str:
    section, name = key.split(".")
    config = tiny_config()
    config[section] = {**config[section], name: value}
    with pytest.raises(ConfigError) as error:
        parse_config(config)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


def test_the_losses_are_trls() -> None:
    documented = trl.DPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    assert set(re.findall(r"`'(\w+)'`", documented)) == set(LOSSES)


def test_the_trackers_are_transformers() -> None:
    assert set(TRACKERS) == set(INTEGRATION_TO_CALLBACK)


def test_an_unknown_loss_is_refused_with_the_nearest() -> None:
    assert "dpo.loss_type: unknown loss 'sigmod', did you mean sigmoid?" in refusal("dpo.loss_type", ["sigmod"])
    message = refusal("dpo.loss_type", ["sft", "x" * 5000])
    assert all(loss in message for loss in LOSSES)


@pytest.mark.parametrize("loss", ["simpo", "cpo", "orpo", "kto"])
def test_a_loss_of_a_related_method_is_not_taken_for_a_typing_error(loss: str) -> None:
    message = refusal("dpo.loss_type", [loss])
    assert f"unknown loss '{loss}', which is no loss of DPO" in message
    assert "did you mean" not in message


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("dpo.loss_type", [], "names no loss"),
        ("dpo.loss_type", [""], "unknown loss"),
        ("dpo.loss_weights", [-1.0], "greater than or equal to 0"),
        ("dpo.loss_weights", [0.0], "nothing would be learnt"),
        ("dpo.max_length", 1, "greater than or equal to 2"),
        ("sft.max_length", 1, "greater than or equal to 2"),
        ("lora.targets", [], "names no module"),
        ("lora.targets", [""], "names no module"),
        ("lora.targets", ["q_proj", ""], "names no module"),
        ("lora.dropout", 1, "less than 1"),
        ("sft.validation", 1.0, "less than 1"),
        ("sft.report_to", ["wandbb"], "did you mean wandb?"),
        ("dpo.report_to", [""], "unknown tracker"),
        ("dpo.report_to", ["os.path"], "unknown tracker"),
        # transformers reads a warmup of 1 as one step, not as the whole training.
        ("dpo.warmup", 1.0, "less than 1"),
        ("sft.warmup", 1, "less than 1"),
    ],
)
def test_a_setting_that_cannot_train_is_refused(key: str, value: Any, reason: str) -> None:
    message = refusal(key, value)
    assert f"{key}" in message
    assert reason in message


@pytest.mark.parametrize("losses", [[loss] for loss in LOSSES])
def test_every_loss_of_trl_is_accepted(losses: list[str]) -> None:
    config = tiny_config()
    config["dpo"] |= {"loss_type": losses, "label_smoothing": 0.1 if losses == ["exo_pair"] else 0.0}
    assert parse_config(config).dpo.loss_type == losses
