"""Token streams between a request's owner (in the gateway) and engine hosts (in workers)."""
