"""What a run is made of, as frozen values: one file per group of `configs/`.

Hydra composes the YAML, `reading` turns it into these values, and nothing below sees Hydra again.
"""
