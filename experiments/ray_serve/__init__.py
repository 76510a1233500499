"""Ray Serve itself, as a baseline system that workloads are replayed against."""
