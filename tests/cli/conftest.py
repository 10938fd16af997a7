"""The model that copies, and a judge behind a server on this machine, for every test of this folder."""

from tests.support.judging import judge, server
from tests.support.reader import reader

__all__ = ["judge", "reader", "server"]
