"""Workloads replayed against real clusters, beside what the simulator had predicted."""
