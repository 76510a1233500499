"""Benchmark of the gateway under overload, idle connections and clients that do not read."""
