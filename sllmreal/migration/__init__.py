"""Live migration of running inferences that loses no token and repeats none."""
