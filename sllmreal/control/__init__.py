"""Messages between the leader and its peers, and the peers' side of that link."""
