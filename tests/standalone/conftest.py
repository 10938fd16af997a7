"""Retries that do not wait, and a judge behind a server on this machine."""

from __future__ import annotations

from tests.support.judging import judge, quick_retries, server

__all__ = ["judge", "quick_retries", "server"]
