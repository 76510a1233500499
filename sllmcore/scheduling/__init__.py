"""The schedulers, one file each, and the searches that they share."""
