"""The benchmark of the control plane's own times."""
