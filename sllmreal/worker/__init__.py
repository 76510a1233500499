"""A worker: owns one server's storage tiers and engines, and carries out what the leader orders."""
