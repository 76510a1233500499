"""What a run did, from its journal alone: a table of requests, one of instances, a summary."""

from sllmcore.metrics.recorder import Recorder
from sllmcore.metrics.summary import Distribution, Summary, distribution

__all__ = ["Distribution", "Recorder", "Summary", "distribution"]
