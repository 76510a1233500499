"""A gateway's health, metrics, version, shutdown and imports."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from experiments.campaigns.gateway.clients import OPEN, in_process, serving, with_timeouts
from experiments.campaigns.gateway.fakes import HEALTHY, FakeBackend
from sllmcore.errors import UsageError
from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.backend import FailedError, Generated, Health
from sllmreal.gateway.overload_log import OverloadLog
from sllmreal.gateway.server import serve

BODY = {"model": "tiny/chat", "prompt": "Hello", "max_tokens": 100}


@pytest.mark.parametrize(
    ("health", "reasons"),
    [
        (HEALTHY, []),
        (replace(HEALTHY, leader_alive=False), ["no leader"]),
        (replace(HEALTHY, store_reachable=False), ["store unreachable"]),
        (replace(HEALTHY, num_workers_alive=0), ["no worker alive"]),
        (replace(HEALTHY, driver_silence_s=3.1), ["driver stuck"]),
        (Health(False, False, 0, 60.0), ["no leader", "store unreachable"]),
    ],
)
@pytest.mark.asyncio
async def test_health_lists_the_reasons_why_the_gateway_cannot_serve(
    health: Health, reasons: list[str]
) -> None:
    async with in_process(FakeBackend(health_now=health)) as client:
        response = await client.get("/health")

    assert response.status_code == (503 if reasons else 200)
    assert response.json()["reasons"][:2] == reasons


@pytest.mark.asyncio
async def test_health_is_starting_until_the_first_leader_and_worker_are_there() -> None:
    backend = FakeBackend(health_now=Health(False, False, 0, 60.0))
    async with in_process(backend) as client:
        found = []
        for health in (backend.health_now, HEALTHY, replace(HEALTHY, num_workers_alive=0)):
            backend.health_now = health
            response = await client.get("/health")
            found.append((response.status_code, response.json()["status"]))

    assert found == [(503, "starting"), (200, "ok"), (503, "unhealthy")]


@pytest.mark.asyncio
async def test_metrics_have_the_names_of_vllms_dashboards() -> None:
    backend = FakeBackend()
    async with in_process(backend) as client:
        await client.post("/v1/completions", json=BODY)
        await client.post("/v1/completions", json=BODY | {"n": 0})
        page = (await client.get("/metrics")).text

    model = 'model_name="tiny/chat"'
    num_prompt, num_output = len(backend.requests[0].prompt), 0
    for line in page.splitlines():
        if line.startswith(f"vllm:generation_tokens_total{{{model}}}"):
            num_output = int(float(line.split()[-1]))
    assert num_output > 10
    for line in (
        f"vllm:num_requests_running{{{model}}} 1.0",
        f"vllm:num_requests_waiting{{{model}}} 2.0",
        f"vllm:kv_cache_usage_perc{{{model}}} 0.5",
        f"vllm:prompt_tokens_total{{{model}}} {num_prompt}.0",
        f'vllm:request_success_total{{finished_reason="stop",{model}}} 1.0',
        f"vllm:time_to_first_token_seconds_count{{{model}}} 1.0",
        f"vllm:inter_token_latency_seconds_count{{{model}}} {num_output - 1}.0",
        f"vllm:e2e_request_latency_seconds_count{{{model}}} 1.0",
        f"vllm:request_decode_time_seconds_count{{{model}}} 1.0",
        f"vllm:request_time_per_output_token_seconds_count{{{model}}} 1.0",
        f'vllm:request_queue_time_seconds_bucket{{le="0.5",{model}}} 1.0',
        f"vllm:request_prefill_time_seconds_count{{{model}}} 0.0",
        f"vllm:num_preemptions_total{{{model}}} 0.0",
        'sllm:cold_start_seconds_bucket{le="0.1",phase="transfer",tier="ssd"} 0.0',
        'sllm:cold_start_seconds_bucket{le="300.0",phase="transfer",tier="ssd"} 1.0',
        'sllm:cold_start_seconds_bucket{le="+Inf",phase="transfer",tier="ssd"} 2.0',
        'sllm:bytes_loaded_total{tier="dram"} 20.0',
        'sllm:migrations_total{outcome="aborted"} 1.0',
        "sllm:recomputed_tokens_total 7.0",
        "sllm:leader_changes_total 2.0",
        'sllm:refused_total{code="400"} 1.0',
        f'sllm:choices_ended_total{{{model},outcome="completed"}} 1.0',
    ):
        assert line in page.splitlines(), line


@pytest.mark.asyncio
async def test_the_version_is_that_of_the_package() -> None:
    async with in_process(FakeBackend()) as client:
        assert (await client.get("/version")).json() == {"version": "0.1.0"}


async def accepts(host: str, port: int) -> bool:
    """Return True if a connection can still be made."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionError:  # refused, or reset from the queue of a server that closes
        return False
    writer.close()
    return True


@pytest.mark.asyncio
async def test_a_stopping_gateway_finishes_open_requests_and_accepts_no_connection() -> None:
    released = asyncio.Event()
    backend = FakeBackend(
        lambda _: [Generated((40,)), released, Generated((41,), FinishReason.LENGTH)]
    )
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(backend, OPEN, stop=stop, ready=lambda host, port: ready.set_result((host, port)))
    )
    host, port = await ready
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=None) as client:
        running = asyncio.create_task(client.post("/v1/completions", json=BODY))
        await backend.until(lambda fake: bool(fake.running))
        stop.set()
        while await accepts(host, port):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.02)
        released.set()

        assert (await running).status_code == 200
    await task


@pytest.mark.asyncio
async def test_a_stopping_gateway_cancels_open_requests_at_its_deadline() -> None:
    backend = FakeBackend(lambda _: [asyncio.Event()])
    async with serving(backend, with_timeouts(drain_s=0.2)) as (host, port):
        client = httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=None)
        running = asyncio.create_task(client.post("/v1/completions", json=BODY))
        await backend.until(lambda fake: bool(fake.running))
    answer = await running
    assert not backend.running
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    await client.aclose()


@pytest.mark.asyncio
async def test_a_cancelled_gateway_leaves_no_socket_and_no_task() -> None:
    ready = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            FakeBackend(),
            OPEN,
            stop=asyncio.Event(),
            ready=lambda host, port: ready.set_result((host, port)),
        )
    )
    address = await ready
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_an_address_in_use_raises_a_usage_error() -> None:
    async with serving(FakeBackend()) as (_, port):
        with pytest.raises(UsageError, match="cannot listen"):
            await serve(FakeBackend(), replace(OPEN, port=port), stop=asyncio.Event())


def test_a_gateway_needs_no_heavy_library() -> None:
    code = "import sys, sllmreal.gateway.app, sllmreal.gateway.text_tokenizer; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)

    heavy = {"torch", "transformers", "ray", "hydra", "simpy", "numpy"}
    assert heavy.isdisjoint(done.stdout.split())


def test_refusals_under_overload_are_logged_at_intervals(caplog: pytest.LogCaptureFixture) -> None:
    times_s = iter((0.0, 1.0, 2.0, 10.0))
    overload = OverloadLog(interval_s=10.0, now_s=lambda: next(times_s))

    for _ in range(4):
        overload.refused("the queue is full")

    assert [record.getMessage() for record in caplog.records] == [
        "1 refused since the last such line: the queue is full",
        "3 refused since the last such line: the queue is full",
    ]


@pytest.mark.asyncio
async def test_a_failed_generation_is_logged_with_its_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with in_process(FakeBackend(lambda _: [FailedError("the engine is lost")])) as client:
        await client.post("/v1/completions", json=BODY)

    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (
        "WARNING",
        "generation failed: the engine is lost",
    )
    assert record.__dict__["model"] == "tiny/chat"
    assert record.__dict__["request"].startswith("cmpl-")
