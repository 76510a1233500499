"""Benchmark of the simulator: simulated requests per CPU-second, memory, and profile."""
