"""The statistics of evaluation: pure functions on arrays, each with its source."""
