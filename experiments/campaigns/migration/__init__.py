"""Migrations under faults, in virtual time and with real processes."""
