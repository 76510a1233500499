"""Stores: one contract for all three, and the faults that each of them must survive."""
