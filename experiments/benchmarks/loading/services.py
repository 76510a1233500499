"""Servers of a checkpoint at the far end of a link: nginx, by plain and by signed S3 requests."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from experiments.benchmarks.loading.link import NetworkLink
from sllmreal.loader.remote_storage import HttpStorage, remote_storage

_PORT = 8080
_BUCKET = "models"


@dataclass(frozen=True, slots=True)
class StorageService:
    """A running service.

    Attributes:
        storage: Opens the service as the loader does.
        url_of: Returns the URL of an object.
    """

    storage: Callable[[], HttpStorage]
    url_of: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ServiceKind:
    """A kind of service.

    Attributes:
        suffix: Suffix of the link's name in its rows.
        why_not: Returns the reason that the service cannot run here; None if it can.
        serving: Serves the files of a directory until the end of the context.
    """

    suffix: str
    why_not: Callable[[], str | None]
    serving: Callable[[Path, NetworkLink], AbstractContextManager[StorageService]]


@contextmanager
def _http(root: Path, link: NetworkLink) -> Iterator[StorageService]:
    with _nginx(root, link) as url:
        yield StorageService(lambda: remote_storage(url), lambda name: f"{url}/{name}")


@contextmanager
def _s3(root: Path, link: NetworkLink) -> Iterator[StorageService]:
    """Serve a bucket by path; nginx answers like S3 but does not check signatures."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / _BUCKET).symlink_to(root.resolve())
        with _nginx(Path(directory), link) as url:
            client = import_module("boto3").client(
                "s3",
                endpoint_url=url,
                region_name="us-east-1",
                aws_access_key_id="any",
                aws_secret_access_key="any",  # noqa: S106
            )
            yield StorageService(
                lambda: remote_storage(f"s3://{_BUCKET}", client=client),
                lambda name: f"{url}/{_BUCKET}/{name}",
            )


@contextmanager
def _nginx(root: Path, link: NetworkLink) -> Iterator[str]:
    """Run nginx at the far end until the end; yield its URL."""
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
              server {{ listen {link.address}:{_PORT}; root {root.resolve()}; }}
            }}
            """
        )
        command = [*link.command, "nginx", "-c", str(config), "-p", directory]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:  # noqa: S603
            try:
                _wait_for(link.address)
                yield f"http://{link.address}:{_PORT}"
            finally:
                server.terminate()


def _wait_for(address: str) -> None:
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if probe.connect_ex((address, _PORT)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("nginx did not start within 10 s")


def _no_nginx() -> str | None:
    return "nginx is not installed" if which("nginx") is None else None


def _no_s3() -> str | None:
    return _no_nginx() or (None if find_spec("boto3") else "boto3 is not installed")


KINDS = (ServiceKind("", _no_nginx, _http), ServiceKind(", S3", _no_s3, _s3))
