"""Campaign that compares the output of migrated sequences with unmigrated output."""
