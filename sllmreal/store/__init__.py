"""The strongly consistent store of a controller: leases, leadership, a durable journal.

`MemoryStore` is for one process, `sqlite.SqliteStore` for one machine, `etcd.EtcdStore` for several
machines; `registry` opens a store by its URL.
"""

from sllmreal.store.batches import read_batches, read_lines
from sllmreal.store.election import Leadership, campaign
from sllmreal.store.journal_log import JournalLog
from sllmreal.store.keeper import KeptLease
from sllmreal.store.lease import Lease
from sllmreal.store.memory import MemoryStore
from sllmreal.store.protocol import Store

__all__ = [
    "JournalLog",
    "KeptLease",
    "Leadership",
    "Lease",
    "MemoryStore",
    "Store",
    "campaign",
    "read_batches",
    "read_lines",
]
