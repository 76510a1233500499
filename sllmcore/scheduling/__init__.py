"""The schedulers: one file each, all with the same signature."""
