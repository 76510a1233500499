"""Ray Serve itself as a system that workloads are replayed against: a baseline that is not ours."""
