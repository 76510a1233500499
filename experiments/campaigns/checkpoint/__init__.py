"""Campaigns against the checkpoint format: fuzzing, corruption, kills of the writer."""
