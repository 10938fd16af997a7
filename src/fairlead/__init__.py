"""Fairlead aligns a language model to preferences and proves that it helped."""

import os
from typing import TYPE_CHECKING, Any

from fairlead.errors import FairleadError
from fairlead.pipeline.project import Project

if TYPE_CHECKING:
    from fairlead.training.dpo_trainer.trainer import DPOTrainer

# Read by torch at its first allocation: large CPU tensors then lie on huge pages, which the kernel hands out faster.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__all__ = ["DPOTrainer", "FairleadError", "Project"]


def __getattr__(name: str) -> Any:
    """`DPOTrainer` on first use: it imports torch, and the command line should not have to."""
    if name == "DPOTrainer":
        from fairlead.training.dpo_trainer.trainer import DPOTrainer

        return DPOTrainer
    raise AttributeError(f"module {__name__} has no attribute {name}")
