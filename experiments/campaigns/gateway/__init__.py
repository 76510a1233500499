"""Random and hostile requests to the gateway."""
