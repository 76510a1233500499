"""The remote tier against a real server: nginx on this machine, limited to the rate of a link.

Every connection has an equal share: together they are the link. The SSD copy is written as well.
"""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.loading.campaign import Row
from experiments.loading.models import Prepared
from sllmreal.loader import ChunkPool, LoadOptions
from sllmreal.loader.plan import DEFAULT_CHUNK_BYTES
from sllmreal.loader.remote import load_remote
from sllmreal.loader.remote_storage import remote_storage

LINKS_BYTES_PER_S = {"nginx 1 Gbit/s": 125e6, "nginx 10 Gbit/s": 1250e6}
_CONNECTIONS = 8


def over_links(model: Prepared, rounds: int) -> Iterator[Row]:
    """Rows of loads from nginx at the rates of two links; none where nginx is not installed."""
    if shutil.which("nginx") is None:
        return
    options = LoadOptions(num_readers=_CONNECTIONS)
    with ChunkPool(model.size_bytes + 4 * DEFAULT_CHUNK_BYTES) as pool:
        for link, rate in LINKS_BYTES_PER_S.items():
            for number in range(rounds):
                with (
                    serving(model.native, rate / _CONNECTIONS) as url,
                    tempfile.TemporaryDirectory(dir=model.native.parent) as cache,
                ):
                    began_s = time.perf_counter()
                    with remote_storage(url) as storage:
                        load_remote(storage, Path(cache), pool=pool, options=options)
                    seconds = time.perf_counter() - began_s
                for identity in pool.status().resident_bytes:
                    pool.evict(identity)
                limit_s = model.size_bytes / rate
                bandwidth = model.size_bytes / seconds
                size = model.size_bytes
                yield Row(
                    "ours remote", model.name, size, link, "cpu", number, seconds, bandwidth,
                    limit_s / seconds,
                )  # fmt: skip


@contextmanager
def serving(root: Path, connection_bytes_per_s: float) -> Iterator[str]:
    """nginx over `root` on a free port of 127.0.0.1, each connection limited; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "nginx.conf"
        config.write_text(
            f"""
            daemon off; pid {directory}/pid; error_log {directory}/error.log; user root;
            worker_processes 1;
            events {{ worker_connections 64; }}
            http {{
              access_log off; sendfile on; keepalive_requests 100000;
              client_body_temp_path {directory}/a; proxy_temp_path {directory}/b;
              fastcgi_temp_path {directory}/c; uwsgi_temp_path {directory}/d;
              scgi_temp_path {directory}/e;
              server {{ listen 127.0.0.1:{port}; root {root.resolve()};
                        limit_rate {int(connection_bytes_per_s)}; }}
            }}
            """
        )
        command = ["nginx", "-c", str(config), "-p", directory]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:  # noqa: S603
            try:
                _wait_for(port)
                yield f"http://127.0.0.1:{port}"
            finally:
                server.terminate()


def _wait_for(port: int) -> None:
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("nginx did not start")
