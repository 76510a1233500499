"""Runs what the paper's figures need and leaves compact results in `results/figures`."""
