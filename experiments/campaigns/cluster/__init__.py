"""Campaigns against a cluster of real processes: kills under load, and hours of load."""
