"""The store in an etcd cluster."""

import os

# Read when grpc is imported. What it does at every fork took a gateway down that started a child
# under load; between fork and exec nobody here calls it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

from sllmreal.store.etcd.endpoints import EtcdTls, Patience
from sllmreal.store.etcd.store import EtcdStore

__all__ = ["EtcdStore", "EtcdTls", "Patience"]
