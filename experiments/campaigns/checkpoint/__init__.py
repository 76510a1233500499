"""Fuzzing, corruption and kills of the checkpoint format."""
