"""Random and hostile requests to the gateway, and its test backend."""
