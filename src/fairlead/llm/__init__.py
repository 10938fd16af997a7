"""Calling language models behind endpoints: clients, retries, budgets, rate limits, stored replies. Knows no judge."""
