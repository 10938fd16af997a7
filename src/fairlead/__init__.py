"""Fairlead aligns a language model to preferences and proves that it helped."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from fairlead.errors import FairleadError
from fairlead.pipeline.project import Project

if TYPE_CHECKING:
    from fairlead.standalone.alignment import evaluate_alignment
    from fairlead.standalone.comparing import compare
    from fairlead.standalone.in_background import (
        build_preferences_async,
        evaluate_alignment_async,
        score_answers_async,
    )
    from fairlead.standalone.preferences import build_preferences
    from fairlead.standalone.results import JudgedAnswers, PreferenceSet
    from fairlead.standalone.scoring import score_answers
    from fairlead.training.dpo_trainer.trainer import DPOTrainer
    from fairlead.training.sft_trainer.trainer import SFTTrainer

# Read by torch at its first allocation: large CPU tensors then lie on huge pages, which the kernel hands out faster.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__all__ = [
    "DPOTrainer",
    "FairleadError",
    "JudgedAnswers",
    "PreferenceSet",
    "Project",
    "SFTTrainer",
    "build_preferences",
    "build_preferences_async",
    "compare",
    "evaluate_alignment",
    "evaluate_alignment_async",
    "score_answers",
    "score_answers_async",
]

# Imported on first use: most of them import torch, and the command line should not have to.
_LAZY = {
    "DPOTrainer": "fairlead.training.dpo_trainer.trainer",
    "JudgedAnswers": "fairlead.standalone.results",
    "PreferenceSet": "fairlead.standalone.results",
    "SFTTrainer": "fairlead.training.sft_trainer.trainer",
    "build_preferences": "fairlead.standalone.preferences",
    "build_preferences_async": "fairlead.standalone.in_background",
    "compare": "fairlead.standalone.comparing",
    "evaluate_alignment": "fairlead.standalone.alignment",
    "evaluate_alignment_async": "fairlead.standalone.in_background",
    "score_answers": "fairlead.standalone.scoring",
    "score_answers_async": "fairlead.standalone.in_background",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
