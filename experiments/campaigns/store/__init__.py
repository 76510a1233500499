"""Kills and failovers of the stores."""
