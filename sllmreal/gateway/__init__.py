"""The OpenAI-compatible HTTP API of a cluster: keys, limits, streams, metrics, health."""
