"""A ledger for each test, the databases it may lie in, and retries that do not wait."""

from tests.support.databases import database, place, postgres
from tests.support.judging import ledger, quick_retries

__all__ = ["database", "ledger", "place", "postgres", "quick_retries"]
