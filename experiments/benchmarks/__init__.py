"""Benchmarks: each measures one part beside its limits and its peers."""
