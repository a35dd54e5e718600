"""Measure what a step costs: contestants, timing, records."""
