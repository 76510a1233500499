"""Benchmark of live migration between two engine processes: strategies, models and contexts."""
