"""Access control: routes without a key, models of other tenants, operators, rates and queues."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.routing import Route

from experiments.campaigns.gateway.clients import OPEN, bearer, in_process, keys_file, with_limits
from experiments.campaigns.gateway.fakes import FakeBackend, endless
from sllmreal.gateway.app import create_app
from sllmreal.gateway.backend import FailedError
from sllmreal.gateway.settings import GatewaySettings

BODY = {"model": "tiny/chat", "prompt": "Hello"}
pytestmark = pytest.mark.asyncio


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    """Return settings with keys `a` and `b` of tenants `a` and `b`, and keys with other limits."""
    path = keys_file(
        tmp_path,
        a={"tenant": "a"},
        b={"tenant": "b"},
        narrow={"tenant": "b", "models": ["ids-only"]},
        operator={"tenant": "a", "operator": True},
        slow={"tenant": "a", "requests_per_s": 0.1, "burst": 2},
        one={"tenant": "a", "max_requests": 1},
        old={"tenant": "a", "expires_at_s": 1.0},
    )
    return replace(OPEN, keys_file=path)


async def test_every_route_but_health_requires_a_valid_key(settings: GatewaySettings) -> None:
    """Fails if a route is added outside of the gate, or the gate has a list of open paths."""
    app = create_app(FakeBackend(), settings)
    paths = {route.path for route in _routes(app.routes)}
    assert {"/v1/models", "/v1/completions", "/v1/chat/completions", "/metrics"} <= paths
    denied = 0
    async with in_process(FakeBackend(), settings) as client:
        for path in sorted(
            paths | {"/", "/docs", "/openapi.json", "/nowhere", "/health/", "//health"}
        ):
            for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"):
                for headers in ({}, bearer("wrong"), bearer("old"), {"authorization": "Basic a"}):
                    response = await client.request(method, path, headers=headers)
                    if path in ("/health", "/ping"):
                        answered = method in ("GET", "HEAD")
                        assert response.status_code == (200 if answered else 405)
                    else:
                        assert response.status_code == 401, (method, path, headers)
                        denied += 1
    assert denied >= 8 * 4 * 10


def _routes(routes: object) -> list[Route]:
    found: list[Route] = []
    for route in routes:  # type: ignore[attr-defined]
        if isinstance(route, Route):
            found.append(route)
        found.extend(_routes(getattr(route, "routes", None) or []))
        inner = getattr(route, "original_router", None)
        found.extend(_routes(inner.routes) if inner is not None else [])
    return found


async def test_a_model_of_another_tenant_is_answered_like_an_absent_one(
    settings: GatewaySettings,
) -> None:
    async with in_process(FakeBackend(), settings) as client:
        visible = {}
        for key in ("a", "b", "narrow"):
            models = (await client.get("/v1/models", headers=bearer(key))).json()["data"]
            visible[key] = [model["id"] for model in models]
        requests = [
            client.get("/v1/models/secret", headers=bearer("a")),
            client.post("/v1/completions", json=BODY | {"model": "secret"}, headers=bearer("a")),
            client.post(
                "/v1/completions", json=BODY | {"model": "secret"}, headers=bearer("narrow")
            ),
        ]
        hidden = [await request for request in requests]
        absent = await client.get("/v1/models/sacred", headers=bearer("a"))
        own = await client.get("/v1/models/secret", headers=bearer("b"))

    assert visible == {
        "a": ["tiny/chat", "ids-only"],
        "b": ["tiny/chat", "ids-only", "secret"],
        "narrow": ["ids-only"],
    }
    assert own.status_code == 200
    assert own.json()["max_model_len"] == 512
    for response in hidden:
        assert response.status_code == 404
        assert response.text.replace("secret", "sacred") == absent.text


async def test_a_request_carries_the_tenant_of_its_key(settings: GatewaySettings) -> None:
    backend = FakeBackend()
    async with in_process(backend, settings) as client:
        await client.post("/v1/completions", json=BODY | {"user": "root"}, headers=bearer("b"))

    assert backend.requests[0].tenant == "b"


async def test_only_operators_read_metrics(settings: GatewaySettings) -> None:
    async with in_process(FakeBackend(), settings) as client:
        user = await client.get("/metrics", headers=bearer("a"))
        operator = await client.get("/metrics", headers=bearer("operator"))

    assert (user.status_code, operator.status_code) == (403, 200)


async def test_a_request_above_the_rate_of_its_key_is_refused_with_retry_after(
    settings: GatewaySettings,
) -> None:
    async with in_process(FakeBackend(), settings) as client:
        answers = [
            await client.post("/v1/completions", json=BODY, headers=bearer("slow"))
            for _ in range(3)
        ]
        other = await client.post("/v1/completions", json=BODY, headers=bearer("a"))

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert 9 <= int(answers[2].headers["retry-after"]) <= 10
    assert other.status_code == 200


async def test_a_request_above_the_concurrency_of_its_key_is_refused(
    settings: GatewaySettings,
) -> None:
    backend = FakeBackend(endless)
    async with in_process(backend, settings) as client:
        first = asyncio.create_task(
            client.post("/v1/completions", json=BODY, headers=bearer("one"))
        )
        await backend.until(lambda fake: len(fake.running) == 1)
        second = await client.post("/v1/completions", json=BODY, headers=bearer("one"))
        first.cancel()

    assert second.status_code == 429
    assert second.json()["error"]["code"] == "concurrency_limit_exceeded"


async def test_a_full_queue_refuses_a_request_with_all_its_choices() -> None:
    backend = FakeBackend(lambda _: [asyncio.Event()])
    async with in_process(backend, with_limits(waiting=3)) as client:
        first = asyncio.create_task(client.post("/v1/completions", json=BODY | {"n": 2}))
        await backend.until(lambda fake: len(fake.running) == 2)
        second = await client.post("/v1/completions", json=BODY | {"n": 2})
        first.cancel()

    assert second.status_code == 429
    assert second.json()["error"]["code"] == "queue_full"
    assert second.headers["retry-after"] == "1"


async def test_a_choice_counts_as_waiting_until_its_first_token() -> None:
    backend = FakeBackend(endless)
    streamed = BODY | {"stream": True}
    async with in_process(backend, with_limits(waiting=1)) as client:
        requests = []
        for count in (1, 2, 3):
            requests.append(asyncio.create_task(client.post("/v1/completions", json=streamed)))
            await backend.until(lambda fake, count=count: len(fake.running) == count)  # type: ignore[misc]
            for _ in range(50):  # turns of the loop, of which the first token takes a few
                await asyncio.sleep(0)
        for request in requests:
            request.cancel()


async def test_a_failed_choice_does_not_count_as_waiting() -> None:
    backend = FakeBackend(lambda _: [FailedError("lost")])
    async with in_process(backend, with_limits(waiting=1)) as client:
        answers = [await client.post("/v1/completions", json=BODY) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [500, 500, 500]
