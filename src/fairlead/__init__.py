"""Fairlead aligns a language model to preferences and proves that it helped."""

from fairlead.errors import FairleadError
from fairlead.project import Project

__all__ = ["FairleadError", "Project"]
