"""Kills and hours of load against a real cluster."""
