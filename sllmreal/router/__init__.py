"""The gateway's request router: connects each request to the instance that serves it."""
