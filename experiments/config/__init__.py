"""The configuration of a run as frozen values: one file per group of `configs/`.

Hydra composes the YAML, `reading` converts it to these values; no other package sees Hydra.
"""
