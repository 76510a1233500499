"""The processes of a cluster: how each starts, finds the others and ends."""
