"""Channels that carry messages between processes."""
