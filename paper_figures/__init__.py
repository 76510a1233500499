"""The paper's figures, drawn from stored results."""
