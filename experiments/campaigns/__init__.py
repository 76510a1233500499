"""Long campaigns: random faults, kills and hostile inputs, each checked by a law."""
