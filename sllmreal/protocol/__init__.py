"""What the processes of a cluster say to one another, and the channel they say it over."""
