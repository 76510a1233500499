"""One file per format family: from a `TextSource` to `TraceRow`s, or to counts per window."""
