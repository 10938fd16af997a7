"""The model that copies, for every test of this folder."""

from tests.support.reader import reader

__all__ = ["reader"]
