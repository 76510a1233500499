"""Simulated runs: from a config to the files in a folder."""
