"""Hypothesis profiles: reproducible by default; `--hypothesis-profile=campaign` for long runs."""

from hypothesis import HealthCheck, settings

_SLOW_TO_DRAW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

settings.register_profile(
    "default",
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=_SLOW_TO_DRAW,
)
settings.register_profile(
    "campaign",
    max_examples=20_000,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=_SLOW_TO_DRAW,
)
settings.load_profile("default")
