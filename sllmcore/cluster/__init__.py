"""The controller's belief about the cluster: one mutable object with incremental indices."""
