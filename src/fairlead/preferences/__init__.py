"""Completions sampled, judged and paired into preference triples."""
