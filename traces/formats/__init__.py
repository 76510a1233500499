"""Formats, a file per family: from a `TextSource` to `TraceRow`s, or to counts per window."""
