"""The store benchmark: times of durable writes and watches, store by store."""
