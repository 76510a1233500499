"""A gateway's own life: health that is true, metrics, version, its end, what it imports."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from experiments.campaigns.gateway.clients import OPEN, in_process, serving, with_timeouts
from experiments.campaigns.gateway.fakes import WELL, FakeBackend
from sllmcore.errors import UsageError
from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.backend import Generated, Health
from sllmreal.gateway.server import serve

BODY = {"model": "tiny/chat", "prompt": "Hello", "max_tokens": 100}


@pytest.mark.parametrize(
    ("health", "reasons"),
    [
        (WELL, []),
        (replace(WELL, leader_alive=False), ["no leader"]),
        (replace(WELL, store_reachable=False), ["store unreachable"]),
        (replace(WELL, num_workers_alive=0), ["no worker alive"]),
        (replace(WELL, driver_silence_s=3.1), ["driver stuck"]),
        (Health(False, False, 0, 60.0), ["no leader", "store unreachable"]),
    ],
)
@pytest.mark.asyncio
async def test_health_tells_the_truth(health: Health, reasons: list[str]) -> None:
    async with in_process(FakeBackend(health_now=health)) as client:
        response = await client.get("/health")

    assert response.status_code == (503 if reasons else 200)
    assert response.json()["reasons"][:2] == reasons


@pytest.mark.asyncio
async def test_metrics_have_the_names_that_dashboards_know() -> None:
    backend = FakeBackend()
    async with in_process(backend) as client:
        await client.post("/v1/completions", json=BODY)
        await client.post("/v1/completions", json=BODY | {"n": 99})
        page = (await client.get("/metrics")).text

    model = 'model_name="tiny/chat"'
    num_prompt, num_output = len(backend.submissions[0].prompt), 0
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
async def test_the_version_is_the_packages() -> None:
    async with in_process(FakeBackend()) as client:
        assert (await client.get("/version")).json() == {"version": "0.1.0"}


async def accepts(host: str, port: int) -> bool:
    """Whether a connection can still be made."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionError:  # refused, or reset from the queue of a server that closes
        return False
    writer.close()
    return True


@pytest.mark.asyncio
async def test_at_its_end_a_gateway_finishes_what_runs_and_takes_nothing_new() -> None:
    going_on = asyncio.Event()
    backend = FakeBackend(
        lambda _: [Generated((40,)), going_on, Generated((41,), FinishReason.LENGTH)]
    )
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(backend, OPEN, stop=stop, ready=lambda host, port: ready.set_result((host, port)))
    )
    host, port = await ready
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=None) as client:
        running = asyncio.create_task(client.post("/v1/completions", json=BODY))
        await backend.until(lambda it: bool(it.running))
        stop.set()
        while await accepts(host, port):  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.02)
        going_on.set()

        assert (await running).status_code == 200
    await task


@pytest.mark.asyncio
async def test_at_its_end_a_gateway_waits_only_so_long() -> None:
    backend = FakeBackend(lambda _: [asyncio.Event()])
    async with serving(backend, with_timeouts(drain_s=0.2)) as (host, port):
        client = httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=None)
        running = asyncio.create_task(client.post("/v1/completions", json=BODY))
        await backend.until(lambda it: bool(it.running))
    answer = await running
    assert not backend.running
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    await client.aclose()


@pytest.mark.asyncio
async def test_a_cancelled_gateway_leaves_nothing_behind() -> None:
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
async def test_an_address_in_use_is_the_callers_error() -> None:
    async with serving(FakeBackend()) as (_, port):
        with pytest.raises(UsageError, match="cannot listen"):
            await serve(FakeBackend(), replace(OPEN, port=port), stop=asyncio.Event())


def test_a_gateway_needs_no_heavy_library() -> None:
    code = "import sys, sllmreal.gateway, sllmreal.gateway.tokens; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)

    heavy = {"torch", "transformers", "ray", "hydra", "simpy", "numpy"}
    assert heavy.isdisjoint(done.stdout.split())
