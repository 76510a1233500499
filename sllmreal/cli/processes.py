"""The processes of a cluster that `sllm serve` keeps running."""

import argparse

from sllmcore.errors import UsageError
from sllmreal import logs
from sllmreal.control.home import Home
from sllmreal.processes.leader import leader_place
from sllmreal.processes.machine_memory import check_memory
from sllmreal.processes.policy_options import given_policy
from sllmreal.processes.server_options import given_sizes
from sllmreal.processes.supervisor import ChildCommand
from sllmreal.transport.addresses import own_host, tcp_address

LEADER_PORT = 8344  # of the leader, for workers on other machines


def cluster_processes(home: Home, arguments: argparse.Namespace) -> list[ChildCommand]:
    """Return the leader and its workers. Raises UsageError for options that contradict each
    other."""
    if arguments.workers < 1 or arguments.gpus < 1:
        raise UsageError("--workers and --gpus must be at least 1")
    if arguments.spares < 0:
        raise UsageError(f"--spares must not be negative, got {arguments.spares}")
    if arguments.placement == "processes" and not arguments.paced:
        check_memory(arguments.workers, arguments.dram_gb, arguments.gpus, arguments.gpu_memory_gb)
    where = ("--home", str(home.directory), *logs.child_options())
    listen = arguments.listen
    if listen is None and arguments.placement == "ray":
        listen = tcp_address(own_host(), LEADER_PORT)
    place = leader_place(home, arguments.store, listen)
    leading = (*given_policy(arguments), "--store", arguments.store)
    at = () if listen is None else ("--listen", listen)
    leader = ChildCommand("leader", "sllmreal.processes.leader", (*where, *leading, *at))
    sizes = given_sizes(arguments)
    if arguments.placement == "ray":
        on_ray = ("--leader", place, "--address", arguments.ray_address)
        return [
            leader,
            ChildCommand("placement", "sllmreal.processes.ray_nodes", (*where, *on_ray, *sizes)),
        ]
    workers = [
        ChildCommand(
            f"worker s{number}",
            "sllmreal.processes.worker",
            (*where, "--server", f"s{number}", *sizes),
        )
        for number in range(arguments.workers)
    ]
    return [leader, *workers]
