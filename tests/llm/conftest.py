"""A ledger for each test, and retries that do not wait."""

from tests.support.judging import ledger, quick_retries

__all__ = ["ledger", "quick_retries"]
