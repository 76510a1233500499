"""The store: one contract for three of them, and what each alone must survive."""
