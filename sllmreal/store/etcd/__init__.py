"""The store in an etcd cluster."""

import os

# grpc reads this when it is imported. Its handlers at fork crashed a gateway that started a child
# under load; no code here calls grpc between fork and exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

from sllmreal.store.etcd.endpoints import EtcdTls, Patience
from sllmreal.store.etcd.store import EtcdStore

__all__ = ["EtcdStore", "EtcdTls", "Patience"]
