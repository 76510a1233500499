"""Equality of an engine's output before and after it moves."""
