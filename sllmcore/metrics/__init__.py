"""Metrics of a run from its journal alone: tables of requests and instances, and a summary."""

from sllmcore.metrics.recorder import Recorder
from sllmcore.metrics.summary import Distribution, Summary, distribution

__all__ = ["Distribution", "Recorder", "Summary", "distribution"]
