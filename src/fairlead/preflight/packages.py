"""Packages that only some configs need."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from fairlead.config.training import TrainSection
from fairlead.preflight.problem import Problem
from fairlead.preflight.scope import Scope

# Of a tracker: the module that transformers imports, where its name differs, and what installs it.
_MODULES = {
    "azure_ml": "azureml",
    "dagshub": "dagshub",
    "flyte": "flytekit",
    "kubeflow": "kubeflow",
}
_EXTRAS = ("wandb", "mlflow", "tensorboard")


def missing_packages(scope: Scope) -> Iterator[Problem]:
    """Trackers, and libraries of optional features, that are not installed."""
    config = scope.config
    for stage, section in (("sft", config.sft), ("dpo", config.dpo)):
        if isinstance(section, TrainSection) and scope.runs(stage):
            for tracker in section.report_to:
                if not _is_installed(_MODULES.get(tracker, tracker)):
                    yield Problem(f"{stage}.report_to", f"{tracker} is not installed", _install(tracker))
    if scope.decides and config.decide.embedding is not None and not _is_installed("sentence_transformers"):
        yield Problem(
            "decide.embedding", "sentence-transformers is not installed", "pip install 'fairlead[embeddings]'"
        )
    if scope.loads_base and config.model.quantization is not None and not _is_installed("bitsandbytes"):
        yield Problem("model.quantization", "bitsandbytes is not installed", "pip install 'fairlead[qlora]', or null")


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _install(tracker: str) -> str:
    package = f"'fairlead[{tracker}]'" if tracker in _EXTRAS else tracker.replace("_", "-")
    return f"pip install {package}, or take it out of report_to"
