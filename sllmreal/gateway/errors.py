"""Errors of the API, in the format of OpenAI's error objects."""

import math
from dataclasses import dataclass

import msgspec
from starlette.responses import Response

from sllmcore.errors import ClusterError, SllmError
from sllmreal.gateway.backend import RejectedError, TimedOutError


@dataclass(eq=False)
class ApiError(SllmError):
    """An HTTP error. `kind` and `code` are the `type` and `code` of OpenAI's error object."""

    status: int
    message: str
    kind: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    closes: bool = False  # the connection cannot be used after it

    def __str__(self) -> str:
        return self.message

    def body(self) -> bytes:
        """Return the error object as JSON."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return msgspec.json.encode({"error": error})

    def response(self) -> Response:
        """Return the HTTP response."""
        headers = {"content-type": "application/json"}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.closes:
            headers["connection"] = "close"
        return Response(self.body(), self.status, headers)


class ClientLeftError(SllmError):
    """The client has disconnected before its response was complete."""


class SlowReaderError(SllmError):
    """The client reads too slowly: its connection is reset, so that it holds no memory."""


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return an error 400."""
    return ApiError(400, message, param=param, code=code)


def unsupported(param: str, reason: str) -> ApiError:
    """Return the error for a parameter that this gateway does not serve."""
    message = (
        f"{param} is not supported by this server: {reason}. Remove it or leave it at its default."
    )
    return bad_request(message, param, "unsupported_parameter")


def unknown_model(name: str) -> ApiError:
    """Return the error for a model that does not exist, or belongs to other tenants."""
    message = (
        f"The model {name[:200]!r} does not exist or you do not have access to it; "
        "/v1/models lists the models that you can use."
    )
    return ApiError(404, message, code="model_not_found", param="model")


def unauthorised(message: str) -> ApiError:
    """Return an error 401."""
    return ApiError(401, message, code="invalid_api_key")


def too_many(message: str, code: str, retry_after_s: float) -> ApiError:
    """Return an error 429."""
    return ApiError(429, message, kind="requests", code=code, retry_after_s=retry_after_s)


def of_cluster(error: ClusterError) -> ApiError:
    """Return the API's error for the error of a generation."""
    match error:
        case RejectedError(retry_after_s=retry_after_s):
            return too_many(str(error), "rejected", 1.0 if retry_after_s is None else retry_after_s)
        case TimedOutError():
            return ApiError(504, str(error), kind="timeout_error", code="timed_out")
        case _:
            return ApiError(500, str(error), kind="server_error", code="generation_failed")
