"""The state of the cluster as the controller knows it, with indices for fast decisions."""
