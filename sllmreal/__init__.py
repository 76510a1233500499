"""Carries commands out on real servers: checkpoints, loading, engines, migration, workers."""
