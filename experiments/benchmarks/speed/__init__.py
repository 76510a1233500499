"""How fast the simulator is: simulated requests per CPU-second, memory, where the time goes."""
