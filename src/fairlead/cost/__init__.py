"""Estimates what the calls of a run would cost before any is made."""
