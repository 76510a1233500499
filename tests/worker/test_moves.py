"""Migration of a request between engine processes of two workers, over each kind of address."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from experiments.campaigns.migration.samples import KEY, unmigrated_output
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.streams import messages as wire
from sllmreal.streams.messages import Epoch
from sllmreal.worker.data_plane import ToInstance
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.process_runner import process_launch
from tests.worker.stages import WAIT_S, Stage, staged, start

MODEL = ModelDeployment("timed", "", 1, 4096, 0.0, "timed", settings={"decode_step_s": 0.002})
SPEC = SequenceSpec("r", tuple(range(1, 21)), 400)
T = TypeVar("T")


class Host:
    """An instance as a gateway sees it. A gateway receives the events of one request: its own."""

    def __init__(self, stage: Stage, instance_id: str) -> None:
        self._stage = stage
        self._instance_id = instance_id

    def post(self, message: wire.ToHost) -> None:
        self._stage.gateway.post(ToInstance(self._instance_id, message))

    async def received(self, kind: type[T], accept: Callable[[T], bool] = lambda _: True) -> T:
        """Return the next acceptable message of a kind; drop others."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message = (await self._stage.gateway.receive()).message
                if isinstance(message, kind) and accept(message):
                    return message


@asynccontextmanager
async def host(move_address: str, instance_id: str) -> AsyncIterator[tuple[Host, wire.HostOnline]]:
    """Run a worker with one instance."""
    async with staged(process_launch(ProcessOptions(move_address=move_address))) as stage:
        stage.execute(start(1, instance_id, MODEL))
        await stage.loaded()
        here = Host(stage, instance_id)
        yield here, await here.received(wire.HostOnline)


def num_files(directory: Path) -> int:
    return len(list(directory.iterdir()))


@pytest.mark.parametrize(("kind", "replay_tokens"), [("tcp", None), ("unix", None), ("tcp", 0)])
def test_a_request_migrates_between_two_workers_and_loses_no_token(
    tmp_path: Path, kind: str, replay_tokens: int | None
) -> None:
    move_address = "tcp:127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}"

    async def scenario() -> tuple[int, ...]:
        async with (
            host(move_address, "i1") as (source, _),
            host(move_address, "i2") as (destination, online),
        ):
            assert online.address.startswith(f"{kind}:")
            layout = online.capabilities.kv_layout
            terms = wire.MigrationParams(KEY, "timed", layout, replay_tokens)
            source.post(wire.StartStream(Epoch(1), wire.PackedSpec.of(SPEC)))
            await source.received(wire.Tokens, lambda one: one.first >= 30)
            destination.post(wire.PrepareStream(Epoch(2), wire.PackedSpec.of(SPEC), terms))
            await destination.received(wire.StreamPrepared)
            source.post(wire.MigrateStream("r", Epoch(1), Epoch(2), online.address, terms))
            ready = await destination.received(wire.StreamReady)
            destination.post(wire.CommitStream("r", Epoch(2), num_received=0))
            source.post(wire.StopStream("r", Epoch(1)))
            assert ready.num_output >= 30
            assert (ready.num_recomputed < len(SPEC.prompt)) == (replay_tokens == 0)
            moved = await destination.received(wire.Tokens, lambda one: one.first == 0)
            return moved.tokens + await _rest(destination, len(moved.tokens))

    assert asyncio.run(scenario()) == unmigrated_output(SPEC)
    assert num_files(tmp_path) == 0  # the sockets are gone with their hosts


async def _rest(host: Host, first: int) -> tuple[int, ...]:
    """Return the tokens from an index to the end."""
    tokens: list[int] = []
    while True:
        message = await host.received(wire.Tokens)
        assert message.first == first + len(tokens)
        tokens += message.tokens
        if message.finish is not None:
            return tuple(tokens)


def test_hosts_of_one_worker_have_addresses_of_their_own(tmp_path: Path) -> None:
    """Seeded bug: one path for all, and the second host cannot listen there."""

    async def scenario() -> None:
        options = ProcessOptions(move_address=f"unix:{tmp_path}")
        async with staged(process_launch(options)) as stage:
            stage.execute(start(1, "i1"))
            stage.execute(start(2, "i2", gpus=(1,)))
            await stage.loaded()
            await stage.loaded()
            assert num_files(tmp_path) == 2

    asyncio.run(scenario())
