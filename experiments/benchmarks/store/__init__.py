"""The store benchmark: how long durable writes and watches take, store by store."""
