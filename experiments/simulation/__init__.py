"""One run: from its config to the files in its folder."""
