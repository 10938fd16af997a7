"""The `watch` section: what cannot work is refused, and renamed thresholds are refused with their present name."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.config.monitoring import Thresholds, WatchSettings


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


def test_the_present_names_of_renamed_thresholds_are_keys() -> None:
    for former, present in Thresholds.renamed.items():
        assert former not in Thresholds.model_fields
        assert present in Thresholds.model_fields
