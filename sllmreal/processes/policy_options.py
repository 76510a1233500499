"""The policy of a real cluster, as command lines give it."""

import argparse

from sllmcore.build import POLICIES, PolicySettings, with_settings
from sllmcore.plugins import PLUGINS, references_in
from sllmcore.typed_settings import text_pairs
from sllmreal.leader.policy_support import check_supported_policy

DEFAULT_POLICY = "serverlessllm"


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Add the options of a process that leads, or has a leader run."""
    parser.add_argument(
        "--policy",
        default=DEFAULT_POLICY,
        metavar="NAME",
        help=f"{', '.join(_served())}, or MODULE:NAME (default {DEFAULT_POLICY})",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="settings of the policy, such as max_candidates=4 residency.keep_alive_s=60",
    )


def _served() -> list[str]:
    """Return the names of installed policies, but of those that workers cannot carry out."""
    unserved = {name for name, policy in POLICIES.built_in.items() if policy.splits_loads}
    return [name for name in POLICIES.names() if name not in unserved]


def given_policy(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the same options for a child process."""
    settings = arguments.settings
    return ("--policy", arguments.policy, *(("--set", *settings) if settings else ()))


def served_policy(arguments: argparse.Namespace) -> PolicySettings:
    """Return the policy with its settings.

    Raises:
        UsageError: The policy or a setting is unknown, a value is of the wrong type, or real
            workers cannot carry out the policy.
    """
    PLUGINS.allow([arguments.policy, *references_in(arguments.settings)])
    chosen = PolicySettings(name=arguments.policy, predictor="quadratic")
    policy = with_settings(chosen, text_pairs(arguments.settings))
    check_supported_policy(policy.name)
    return policy
