"""How the gateway bears overload, idle connections and clients that do not read."""
