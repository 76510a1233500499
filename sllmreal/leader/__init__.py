"""The leader: the controller with its durable journal, its peers and its operator."""
