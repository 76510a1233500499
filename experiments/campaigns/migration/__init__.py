"""Campaigns of migrations under faults: simulated, with real processes, and with damaged frames."""
