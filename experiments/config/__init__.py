"""The configuration of a run, as frozen values: one file per group of `configs/`.

Hydra composes the YAML and `reading` turns it into these values; no other code uses Hydra.
"""
