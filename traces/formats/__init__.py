"""Readers, one file per format family: from a `TextSource` to `TraceRow`s or counts per window."""
