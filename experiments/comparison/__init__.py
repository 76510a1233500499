"""Comparisons: several policies on the same requests, in parallel processes, resumable."""
