"""The paper's evaluation: runs behind its figures, and bounds on what any policy can reach."""
