"""A cluster of real etcd processes on loopback, for measurements and tests."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from sllmreal.store.etcd import EtcdTls

ETCD = shutil.which("etcd")
READY_WITHIN_S = 20.0


class EtcdCluster:
    """A running cluster; a context manager.

    Attributes:
        addresses: host:port of each node, for clients.
    """

    def __init__(self, folder: Path, num_nodes: int, tls: EtcdTls | None = None) -> None:
        assert ETCD is not None, "callers check that etcd is installed"
        self._folder = folder
        self._tls = tls
        ports = _free_ports(2 * num_nodes)
        self.addresses = [f"127.0.0.1:{port}" for port in ports[:num_nodes]]
        self._peers = [f"http://127.0.0.1:{port}" for port in ports[num_nodes:]]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "EtcdCluster":
        self._processes = [self._started(number) for number in range(len(self.addresses))]
        for address in self.addresses:
            _wait_until_listening(address)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def kill(self, number: int) -> None:
        """Kill a node by SIGKILL."""
        self._processes[number].kill()
        self._processes[number].wait()

    def freeze(self, number: int) -> None:
        """Suspend a node: its connections stay, but it does not answer."""
        self._processes[number].send_signal(signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        """Let a paused node go on."""
        self._processes[number].send_signal(signal.SIGCONT)

    def restart(self, number: int) -> None:
        """Restart a killed node with its data."""
        self._processes[number] = self._started(number)
        _wait_until_listening(self.addresses[number])

    def _started(self, number: int) -> subprocess.Popen[bytes]:
        scheme = "https" if self._tls else "http"
        members = ",".join(f"n{index}={peer}" for index, peer in enumerate(self._peers))
        client = f"{scheme}://{self.addresses[number]}"
        with (self._folder / f"n{number}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own words
                [
                    str(ETCD),
                    *("--name", f"n{number}", "--data-dir", str(self._folder / f"n{number}")),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", self._peers[number]),
                    *("--initial-advertise-peer-urls", self._peers[number]),
                    *("--initial-cluster", members, "--logger", "zap"),
                    *(self._tls_options() if self._tls else ()),
                ],
                stdout=log,
                stderr=log,
            )

    def _tls_options(self) -> Sequence[str]:
        assert self._tls is not None
        return (
            *("--cert-file", str(self._tls.certificate), "--key-file", str(self._tls.key)),
            *("--trusted-ca-file", str(self._tls.ca), "--client-cert-auth"),
        )


def _free_ports(count: int) -> list[int]:
    """Return different free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def _wait_until_listening(address: str) -> None:
    host, port = address.split(":")
    until_s = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < until_s, f"etcd does not listen at {address}"
            time.sleep(0.02)  # a starting process gives no other sign
