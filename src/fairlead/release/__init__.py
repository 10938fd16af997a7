"""The gate and the report. Trains nothing, and judges only what the comparison measured."""
