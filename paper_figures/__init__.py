"""Draws the paper's figures from stored results; runs nothing."""
