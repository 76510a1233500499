"""The store in a file of this machine."""

from sllmreal.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
