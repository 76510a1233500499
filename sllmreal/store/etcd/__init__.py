"""The store in an etcd cluster."""

from sllmreal.store.etcd.endpoints import EtcdTls, Patience
from sllmreal.store.etcd.store import EtcdStore

__all__ = ["EtcdStore", "EtcdTls", "Patience"]
