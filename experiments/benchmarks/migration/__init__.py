"""Live migration measured: strategies, models and contexts, between two engine processes."""
