"""Campaigns against the stores: kills of writers of SQLite and of nodes of etcd."""
