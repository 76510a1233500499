"""Small programs that show one part of the toolkit each; run them as files."""
