"""Fairlead aligns a language model to preferences and proves that it helped."""

from typing import TYPE_CHECKING, Any

from fairlead.errors import FairleadError
from fairlead.project import Project

if TYPE_CHECKING:
    from fairlead.training.trainer import DPOTrainer

__all__ = ["DPOTrainer", "FairleadError", "Project"]


def __getattr__(name: str) -> Any:
    """`DPOTrainer` on first use: it imports torch, and the command line should not have to."""
    if name == "DPOTrainer":
        from fairlead.training.trainer import DPOTrainer

        return DPOTrainer
    raise AttributeError(f"module {__name__} has no attribute {name}")
