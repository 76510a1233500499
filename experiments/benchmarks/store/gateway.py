"""etcd's JSON gateway, called by httpx: the cost of a store in etcd without gRPC."""

from base64 import b64encode

import httpx

from experiments.benchmarks.store.measures import VALUE, Times, timed


async def gateway_measured(address: str, prefix: str, num_calls: int) -> Times:
    """Time single puts and gets over one connection."""
    key = b64encode(f"{prefix}/a".encode()).decode()
    value = b64encode(VALUE).decode()
    async with httpx.AsyncClient(base_url=f"http://{address}/v3") as client:

        async def call(path: str, content: dict[str, str]) -> None:
            (await client.post(path, json=content)).raise_for_status()

        return {
            "get": await timed(lambda _: call("/kv/range", {"key": key}), num_calls),
            "put": await timed(lambda _: call("/kv/put", {"key": key, "value": value}), num_calls),
        }
