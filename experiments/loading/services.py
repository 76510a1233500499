"""What serves a checkpoint at the far end of a link: nginx, and an S3 service (moto's)."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from experiments.loading.link import Link
from sllmreal.loader.remote_storage import HttpStorage, remote_storage

_PORT = 8080
_BUCKET = "models"
_S3_NEEDS = ("boto3", "moto", "flask", "flask_cors")


@dataclass(frozen=True, slots=True)
class Service:
    """A running service.

    Attributes:
        storage: Opens it as the loader does.
        url_of: Where one of its objects is, for who has no credentials.
    """

    storage: Callable[[], HttpStorage]
    url_of: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of service.

    Attributes:
        suffix: What its rows' links are called beyond their rates.
        why_not: Why it cannot be had here; None where it can.
        serving: Serves the files of a folder until the end of the block.
    """

    suffix: str
    why_not: Callable[[], str | None]
    serving: Callable[[Path, Link], AbstractContextManager[Service]]


@contextmanager
def _nginx(root: Path, link: Link) -> Iterator[Service]:
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
        with _started(link, "nginx", "-c", str(config), "-p", directory) as url:
            yield Service(lambda: remote_storage(url), lambda name: f"{url}/{name}")


@contextmanager
def _s3(root: Path, link: Link) -> Iterator[Service]:
    """moto checks no signature; the requests, their answers and the ranges are S3's."""
    server = ("-m", "moto.server", "-H", link.address, "-p", str(_PORT))
    with _started(link, sys.executable, *server) as url:
        client = import_module("boto3").client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",  # noqa: S106
        )
        client.create_bucket(Bucket=_BUCKET)
        for file in root.rglob("*"):
            if file.is_file():
                client.upload_file(str(file), _BUCKET, str(file.relative_to(root)))

        def url_of(name: str) -> str:
            where = {"Bucket": _BUCKET, "Key": name}
            return str(client.generate_presigned_url("get_object", Params=where))

        yield Service(lambda: remote_storage(f"s3://{_BUCKET}", client=client), url_of)


@contextmanager
def _started(link: Link, *command: str) -> Iterator[str]:
    """A server at the far end, ended with the block; its URL."""
    with subprocess.Popen([*link.command, *command], stderr=subprocess.DEVNULL) as server:  # noqa: S603
        try:
            _wait_for(link.address)
            yield f"http://{link.address}:{_PORT}"
        finally:
            server.terminate()


def _wait_for(address: str) -> None:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if probe.connect_ex((address, _PORT)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"no server at {address}:{_PORT} after 30 s")


def _no_nginx() -> str | None:
    return "nginx is not installed" if which("nginx") is None else None


def _no_s3() -> str | None:
    missing = [name for name in _S3_NEEDS if find_spec(name) is None]
    return f"no module {missing[0]}" if missing else None


KINDS = (Kind("", _no_nginx, _nginx), Kind(", S3", _no_s3, _s3))
