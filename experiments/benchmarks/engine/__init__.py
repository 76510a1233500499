"""Benchmarks of the inference engine: our decode loop and cold start beside transformers' own."""
