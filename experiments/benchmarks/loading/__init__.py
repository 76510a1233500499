"""The loading benchmark: our loader beside its peers and the limits of the hardware."""
