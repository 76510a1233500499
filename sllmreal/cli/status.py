"""`sllm status` and `sllm models`: the leader's state, as tables or JSON."""

import argparse
import asyncio
import sys
import time

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from sllmreal.control.home import Home, opened_home
from sllmreal.control.messages import ClusterStatus, GetStatus
from sllmreal.control.operator import ask

REFRESH_S = 1.0


def status_command(arguments: argparse.Namespace) -> int:
    """Print servers, instances and requests."""
    home = opened_home(arguments.home)
    if arguments.json:
        _print_json(_status(home))
    elif arguments.watch and sys.stdout.isatty():
        with Live(_tables(_status(home)), refresh_per_second=4) as live:
            while True:
                time.sleep(REFRESH_S)
                live.update(_tables(_status(home)))
    else:
        Console().print(_tables(_status(home)))
    return 0


def models_command(arguments: argparse.Namespace) -> int:
    """Print the deployed models."""
    models = _status(opened_home(arguments.home)).models
    if arguments.json:
        _print_json(models)
        return 0
    table = Table("model", "bytes", "context", "GPUs", "slots", "source")
    for one in models:
        numbers = (one.size_bytes, one.context_tokens, one.num_gpus, one.num_slots)
        table.add_row(one.name, *(str(number) for number in numbers), one.source)
    Console().print(table)
    return 0


def _status(home: Home) -> ClusterStatus:
    answer = asyncio.run(ask(home, GetStatus(), wait_s=5.0))
    assert answer is not None, "GetStatus is answered by a ClusterStatus"
    return answer


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def _tables(status: ClusterStatus) -> Group:
    servers = Table("server", "GPUs", "free", "worker", "DRAM used", "SSD used")
    for server in status.servers:
        state = "away" if not server.connected else "leaving" if server.draining else "here"
        servers.add_row(
            server.id,
            str(server.num_gpus),
            str(server.num_free),
            state,
            f"{server.dram_used_bytes / 1e9:.2f} GB",
            f"{server.ssd_used_bytes / 1e9:.2f} GB",
        )
    instances = Table("instance", "model", "server", "GPUs", "state", "requests")
    for one in status.instances:
        gpus = ",".join(str(index) for index in one.gpu_indices)
        state = "ready" if one.ready else "loading"
        instances.add_row(one.id, one.model, one.server_id, gpus, state, str(one.num_requests))
    line = f"leader {status.term}, {status.num_waiting} waiting, {status.num_events} events"
    return Group(line, servers, instances, *_problems(status))


def _problems(status: ClusterStatus) -> tuple[Table, ...]:
    """Return the table of the last problems; none if there is no problem."""
    if not status.problems:
        return ()
    table = Table("ago", "problem with", "reason")
    for one in status.problems:
        table.add_row(f"{max(0.0, status.now_s - one.at_s):.0f} s", one.subject, one.reason)
    return (table,)
