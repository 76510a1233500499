"""How long the control plane itself takes."""
