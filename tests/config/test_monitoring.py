"""The `watch` section: what cannot work is refused, and renamed thresholds are refused with their present name."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.config.monitoring import Thresholds, WatchSettings
from fairlead.config.project import parse_config
from fairlead.errors import ConfigError
from tests.support.projects import tiny_config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_kl": 1.0}, "max_kl is read only with keep: best"),
        ({"max_kl": 1.0, "keep": "best", "samples": 0}, "max_kl needs samples"),
        ({"samples": 0, "max_new_tokens": 8}, "read by nothing"),
        ({"stop_on": ["boredom"]}, "stop_on"),
        ({"thresholds": {"small_kll": 1}}, "small_kll"),
        ({"cost": 1.5}, "cost"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WatchSettings.model_validate(settings)


@pytest.mark.parametrize(("former", "present"), Thresholds.renamed.items())
def test_the_former_name_of_a_threshold_is_refused_with_the_present_one(former: str, present: str) -> None:
    assert present in Thresholds.model_fields
    with pytest.raises(ConfigError, match=rf"watch\.thresholds\.{former}: was renamed to {present}"):
        parse_config(tiny_config() | {"watch": {"thresholds": {former: 0.3}}})
