"""The gateway's HTTP application: an OpenAI-compatible API over a `Backend`."""

import logging
from importlib import metadata

import msgspec
from fastapi import APIRouter, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from sllmreal.gateway.backend import Backend, DeployedModel
from sllmreal.gateway.errors import ApiError, ClientLeftError
from sllmreal.gateway.gate import OPEN_PATHS, Gate
from sllmreal.gateway.service import CLIENT_LEFT, GatewayService
from sllmreal.gateway.settings import GatewaySettings
from sllmreal.gateway.unserved import UNSERVED_ENDPOINTS

_LOG = logging.getLogger(__name__)


def create_app(backend: Backend, settings: GatewaySettings) -> FastAPI:
    """Return the application; `app.state.service` is its GatewayService.

    Raises UsageError for an invalid keys file.
    """
    service = GatewayService(backend, settings)
    # Without a schema and its pages: those routes would be open to clients without a key.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    app.include_router(_generating_routes(service))
    app.include_router(_text_routes(service))
    app.include_router(_status_routes(service))
    app.add_middleware(
        Gate,
        keyring=service.keyring,
        admission=service.admission,
        draining=lambda: service.draining,
        on_error=service.count_error,
    )
    if settings.cors_origins:  # outside of the gate, because a preflight request has no key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    _add_error_handlers(app, service)
    return app


def _generating_routes(service: GatewayService) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.post("/completions")
    async def completions(request: Request) -> Response:
        return await service.completion(request)

    @router.post("/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await service.chat(request)

    return router


def _text_routes(service: GatewayService) -> APIRouter:
    router = APIRouter()

    @router.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        return _json(await service.tokenize(request))

    @router.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        return _json(await service.detokenize(request))

    return router


def _status_routes(service: GatewayService) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/models")
    async def models(request: Request) -> Response:
        principal = request.state.principal
        visible = [_card(model) for model in service.backend.models() if principal.sees(model)]
        return _json({"object": "list", "data": visible})

    @router.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Response:
        return _json(_card(service.planner(request).model(name)))

    async def health() -> Response:
        found = service.health()
        body = {"status": found.status, "reasons": found.reasons}
        return _json(body, 200 if found.status == "ok" else 503)

    for path in OPEN_PATHS:
        router.add_api_route(path, health, methods=["GET"])

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        if not request.state.principal.is_operator:
            message = (
                "This key may not read metrics, because they name every tenant's models; "
                "use the key of an operator."
            )
            raise ApiError(403, message, "permission_error", "operators_only")
        return Response(service.metrics.page(), headers={"content-type": CONTENT_TYPE_LATEST})

    @router.get("/version")
    async def version() -> Response:
        return _json({"version": metadata.version("serverless-llm-toolkit")})

    return router


def _add_error_handlers(app: FastAPI, service: GatewayService) -> None:
    """Answer errors of routes, of routing and of the gateway itself with OpenAI's error objects."""

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        service.count_error(error)
        return error.response()

    @app.exception_handler(ClientLeftError)
    async def client_left(request: Request, error: ClientLeftError) -> Response:
        _LOG.info("%s", error)
        return Response(status_code=CLIENT_LEFT)

    @app.exception_handler(HTTPException)
    async def routing_error(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        message = f"{error.detail}: {request.method} {path[:200]}"
        if path in UNSERVED_ENDPOINTS:
            message = f"{path} is not supported by this server: {UNSERVED_ENDPOINTS[path]}."
            refusal = ApiError(404, message, code="unsupported_endpoint")
            return await api_error(request, refusal)
        return await api_error(request, ApiError(error.status_code, message))

    @app.exception_handler(Exception)
    async def internal_error(request: Request, error: Exception) -> Response:
        # Starlette raises the error again, and uvicorn logs its traceback.
        _LOG.error("internal error in %s %s", request.method, request.url.path[:200])
        message = "Internal error of the gateway; its log has the cause."
        return await api_error(request, ApiError(500, message, "server_error", "internal_error"))


def _card(model: DeployedModel) -> dict[str, object]:
    return {
        "id": model.name,
        "object": "model",
        "created": int(model.created_at_s),
        "owned_by": model.owned_by,
        "max_model_len": model.context_tokens,
    }


def _json(value: object, status: int = 200) -> Response:
    headers = {"content-type": "application/json"}
    return Response(msgspec.json.encode(value), status, headers)
