"""Replays of workloads against real clusters, for comparison with simulations."""
