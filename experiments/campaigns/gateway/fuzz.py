"""A campaign of random and hostile requests, in process, against the whole application.

    python -m experiments.campaigns.gateway.fuzz --requests 200000 --seed 1

Counts responses by status and measures the longest turn of the event loop. A turn takes the lesser
of the wall time and the process's CPU time between two turns, so that load of the machine does not
count. Exits with 1 on a 5xx, a response that is no JSON, a request that still runs at the end, or a
turn of 250 ms.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fastapi import FastAPI

from experiments.campaigns.gateway.clients import with_limits
from experiments.campaigns.gateway.fakes import FakeBackend, answering
from experiments.campaigns.gateway.hostile import Body, BodyMaker, costly_bodies
from sllmreal.gateway.app import create_app

MAX_TURN_S = 0.25
_CONCURRENT = 16
_BATCH = 1_000  # bodies made before they are sent, so that making them is not measured


@dataclass
class Findings:
    """The results of a campaign."""

    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    longest_turn_s: float = 0.0
    slowest: str = ""

    def add_turns(self, turns: "TurnMeter", what: str) -> None:
        """Keep the longest turn, and what was sent in it."""
        if turns.longest_s > self.longest_turn_s:
            self.longest_turn_s, self.slowest = turns.longest_s, what

    @property
    def num_requests(self) -> int:
        """Number of responses."""
        return self.statuses.total()


class TurnMeter:
    """Measures every turn of the event loop until the context ends.

    Reading the CPU clock may take longer than a turn. So it is read every 20 ms, and up to 20 ms of
    CPU time of earlier turns count with a turn's own.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._running = False

    async def __aenter__(self) -> "TurnMeter":
        self._running = True
        self._wall_s = self._read_s = time.perf_counter()
        self._cpu_s = time.process_time()
        asyncio.get_running_loop().call_soon(self._turn)
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.sleep(0)  # the turn that ends here counts too
        self._running = False

    def _turn(self) -> None:
        wall_s = time.perf_counter()
        turn_s, self._wall_s = wall_s - self._wall_s, wall_s
        if wall_s - self._read_s > 0.02:
            cpu_s = time.process_time()
            self.longest_s = max(self.longest_s, min(turn_s, cpu_s - self._cpu_s))
            self._cpu_s, self._read_s = cpu_s, wall_s
        if self._running:
            asyncio.get_running_loop().call_soon(self._turn)


async def response(app: FastAPI, body: Body) -> tuple[int, bytes]:
    """Return status and content of the response to one POST, sent without an HTTP client."""
    sent: list[dict[str, Any]] = []
    parts = [body.content[: 1 << 16], body.content[1 << 16 :]]
    messages = [
        {"type": "http.request", "body": part, "more_body": index == 0}
        for index, part in enumerate(parts)
    ]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": body.path,
        "raw_path": body.path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"gateway"), (b"content-length", str(len(body.content)).encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    await app(scope, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent)


def problem_of(status: int, content: bytes) -> str | None:
    """Return the problem of a response; None if there is none."""
    if status not in (200, 400, 404, 413):
        return f"status {status}"
    if content.startswith((b"data: ", b": ")):
        return None if b'"error"' in content or content.endswith(b"[DONE]\n\n") else "no end"
    try:
        answer = json.loads(content)
    except ValueError:
        return "no JSON"
    if status == 200:
        return None if answer["choices"] else "no choices"
    return None if answer["error"]["message"] else "no message"


async def campaign(num_requests: int, seed: int, max_bytes: int = 1 << 20) -> Findings:
    """Send every costly body of `max_bytes` once, then `num_requests` random bodies."""
    # The campaign is one client, so its rate is not limited.
    settings = with_limits(requests_per_s=1e9, burst=10**9, body_bytes=max_bytes)
    backend = FakeBackend(answering("Hello world", batch=4))
    app = create_app(backend, settings)
    maker, findings = BodyMaker(Random(seed)), Findings()

    async def send(name: str, body: Body) -> None:
        status, content = await response(app, body)
        findings.statuses[status] += 1
        problem = problem_of(status, content)
        if problem is not None:
            findings.problems.append(f"{name}: {problem}: {body.content[:300]!r}")

    async def together(first: int, bodies: list[Body]) -> None:
        queue = list(enumerate(bodies, first))

        async def worker() -> None:
            while queue:
                number, body = queue.pop()
                await send(f"request {number}", body)

        await asyncio.gather(*(worker() for _ in range(_CONCURRENT)))

    for name, body in costly_bodies(max_bytes).items():
        async with TurnMeter() as turns:
            await send(name, body)
        findings.add_turns(turns, name)
    for first in range(0, num_requests, _BATCH):
        bodies = [maker.body() for _ in range(min(_BATCH, num_requests - first))]
        async with TurnMeter() as turns:
            await together(first, bodies)
        findings.add_turns(turns, f"requests {first} to {first + len(bodies)}")
    if backend.running:
        findings.problems.append(f"{len(backend.running)} requests still run")
    return findings


def main() -> int:
    """Run a campaign and print its results."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.campaigns.gateway.fuzz", description=__doc__
    )
    parser.add_argument("--requests", type=int, default=200_000, help="number of random requests")
    parser.add_argument("--seed", type=int, default=1, help="of the random requests")
    arguments = parser.parse_args()
    began_s = time.perf_counter()
    findings = asyncio.run(campaign(arguments.requests, arguments.seed))
    elapsed_s = time.perf_counter() - began_s
    print(f"{findings.num_requests:,} requests in {elapsed_s:.1f} s, seed {arguments.seed}")
    print(f"by status: {dict(sorted(findings.statuses.items()))}")
    print(f"longest turn: {findings.longest_turn_s * 1e3:.0f} ms ({findings.slowest})")
    for problem in findings.problems[:20]:
        print(problem)
    return 1 if findings.problems or findings.longest_turn_s >= MAX_TURN_S else 0


if __name__ == "__main__":
    sys.exit(main())
