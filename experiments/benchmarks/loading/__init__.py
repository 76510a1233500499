"""The loading benchmark: this loader, other loaders, and the limits of the hardware."""
