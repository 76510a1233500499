"""Refusal of the policies that a real cluster cannot carry out."""

from sllmcore.build import POLICIES, check_policy
from sllmcore.errors import UsageError


def check_supported_policy(name: str) -> None:
    """Refuse a policy that is unknown or that real workers cannot carry out.

    Raises:
        UsageError: The reason.
    """
    check_policy(name)
    if reason := unsupported_reason(name):
        raise UsageError(f"policy {name}: {reason}; choose another policy, or simulate this one")


def unsupported_reason(name: str) -> str | None:
    """Return why real workers cannot carry out a known policy; None: they can."""
    if POLICIES[name].splits_loads:
        return "its workers do not split loads over helpers"
    return None
