"""The execution of a fault plan on a simulated cluster."""

from collections.abc import Iterable
from typing import assert_never

from sllmsim.cluster import SimCluster
from sllmsim.faults import (
    ControllerCrash,
    EngineCrash,
    Fault,
    LinkLoss,
    LoadFailure,
    ServerCrash,
    ServerLeave,
    SlowDisk,
)
from sllmsim.links import Link


class FaultPlayer:
    """A player of faults: each is applied at its time, unless all requests have ended by then."""

    def __init__(self, cluster: SimCluster, faults: Iterable[Fault]) -> None:
        self._cluster = cluster
        for fault in faults:
            self._schedule(fault)

    def _schedule(self, fault: Fault) -> None:
        self._cluster.clock.call_at(fault.at_s, lambda _: self._apply(fault))

    def _apply(self, fault: Fault) -> None:
        cluster = self._cluster
        if cluster.over:
            return
        match fault:
            case ServerCrash(_, server_id, return_after_s):
                self._crash(server_id, return_after_s)
            case ServerLeave(_, server_id):
                cluster.drain_server(server_id)
            case EngineCrash(_, server_id):
                cluster.crash_engine(server_id)
            case LoadFailure(_, server_id):
                cluster.fail_loads(server_id)
            case SlowDisk(_, server_id, factor, duration_s):
                if (slow := cluster.servers.get(server_id)) is not None:
                    self._throttle(slow.ssd_read, factor, duration_s)
                    self._throttle(slow.ssd_write, factor, duration_s)
            case LinkLoss(_, server_id, duration_s):
                if (cut_off := cluster.servers.get(server_id)) is not None:
                    cluster.break_migrations(server_id)
                    self._throttle(cut_off.nic, 0.0, duration_s)
                    self._throttle(cut_off.nic_out, 0.0, duration_s)
            case ControllerCrash(_, duration_s):
                cluster.control.crash()
                cluster.clock.call_in(duration_s, lambda _: cluster.control.restart())
            case _:
                assert_never(fault)

    def _crash(self, server_id: str, return_after_s: float | None) -> None:
        cluster = self._cluster
        server = cluster.crash_server(server_id)
        if server is not None and return_after_s is not None:
            cluster.clock.call_in(return_after_s, lambda _: cluster.revive_server(server))

    def _throttle(self, link: Link, factor: float, duration_s: float) -> None:
        """Slow a link down for a while. If faults overlap, the last one to end restores it."""
        cluster = self._cluster
        cluster.links.set_bandwidth(link, factor * link.full_bytes_per_s)
        link.faults += 1

        def restore(_: object) -> None:
            link.faults -= 1
            if not link.faults:
                cluster.links.set_bandwidth(link, link.full_bytes_per_s)

        cluster.clock.call_in(duration_s, restore)
