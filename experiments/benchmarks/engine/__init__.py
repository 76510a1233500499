"""Benchmarks of the engine: decoding and cold start, compared with transformers."""
