"""Engines: one model's weights, many requests, a token for each at every step."""
