"""An S3 service for tests: moto, behind an application that checks signatures as S3 does.

moto accepts presigned URLs with any signature. The application in front signs each request again,
with botocore and the right key, and compares. It can also drop connections and change bytes.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

BUCKET = "models"
_KEY, _SECRET = "AKIDRIGHT", "the-right-secret"


@dataclass
class S3:
    """A running service: its faults and its address."""

    url: str = ""
    drop_after_bytes: list[int] = field(default_factory=list)  # one broken answer for each
    spoil: Callable[[bytes], bytes] = lambda raw: raw
    num_requests: int = 0

    def client(self, secret: str = _SECRET) -> Any:
        config = import_module("botocore.client").Config(
            signature_version="s3v4", s3={"addressing_style": "path"}
        )
        return import_module("boto3").client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=_KEY,
            aws_secret_access_key=secret,
            config=config,
        )

    def upload(self, directory: Path, prefix: str) -> None:
        """Store every file under `directory` as an object below `prefix`."""
        client = self.client()
        for file in directory.rglob("*"):
            if file.is_file():
                name = f"{prefix}/{file.relative_to(directory)}"
                client.put_object(Bucket=BUCKET, Key=name, Body=file.read_bytes())


@contextmanager
def running_s3() -> Iterator[S3]:
    """Run the service on a free port of 127.0.0.1, with an empty bucket, until the end."""
    moto: Any = import_module("moto.server")
    werkzeug: Any = import_module("werkzeug.serving")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    service = S3()
    app = moto.DomainDispatcherApplication(moto.create_backend_app)
    server = werkzeug.make_server("127.0.0.1", 0, _SignatureCheck(app, service), threaded=True)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        service.client().create_bucket(Bucket=BUCKET)
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _SignatureCheck:
    """A WSGI application in front of moto's."""

    def __init__(self, app: Any, service: S3) -> None:
        self._app = app
        self._service = service

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        self._service.num_requests += 1
        query = parse_qs(environ.get("QUERY_STRING", ""))
        if "X-Amz-Signature" not in query:  # an upload of the tests
            answer: Iterable[bytes] = self._app(environ, start)
            return answer
        if query["X-Amz-Signature"] != [self._signature(environ, query)]:
            body = b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
            start("403 Forbidden", [("Content-Length", str(len(body)))])
            return [body]
        return self._with_faults(b"".join(self._app(environ, start)), environ)

    def _with_faults(self, body: bytes, environ: dict[str, Any]) -> Iterator[bytes]:
        if environ.get("HTTP_RANGE") == "bytes=0-0":
            yield body
            return
        body = self._service.spoil(body)
        if self._service.drop_after_bytes:
            yield body[: self._service.drop_after_bytes.pop(0)]
            environ["werkzeug.socket"].close()
            return
        yield body

    def _signature(self, environ: dict[str, Any], query: dict[str, list[str]]) -> str:
        """Return the right key's signature of this request."""
        auth: Any = import_module("botocore.auth")
        request: Any = import_module("botocore.awsrequest").AWSRequest(
            method=environ["REQUEST_METHOD"],
            url=f"{self._service.url}{environ['PATH_INFO']}",
            params={key: one[0] for key, one in query.items() if key != "X-Amz-Signature"},
            headers={"host": environ["HTTP_HOST"]},
        )
        credentials = import_module("botocore.credentials").Credentials(_KEY, _SECRET)
        signer = auth.S3SigV4QueryAuth(credentials, "s3", "us-east-1")
        request.context["timestamp"] = query["X-Amz-Date"][0]
        canonical = signer.canonical_request(request)
        return str(signer.signature(signer.string_to_sign(request, canonical), request))
