"""The gateway's request router: it connects each request to the instance that serves it."""
