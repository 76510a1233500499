"""The real cluster: a leader that decides, workers that own servers, gateways that own requests."""
