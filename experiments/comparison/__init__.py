"""Several runs side by side: policies on the same requests, in parallel, resumable."""
