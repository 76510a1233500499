"""What Ray Serve runs: a replica that loads its model when it is made, then serves it."""

import itertools
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import ray

from experiments.ray_serve.engine_thread import EngineThread
from experiments.ray_serve.node import Node
from sllmcore.types import StorageTier
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.worker.engines import make_engine

LIVES = "lives.jsonl"


class Life(msgspec.Struct, frozen=True):
    """A step in a replica's life, as it writes it down itself. Times are of the wall clock."""

    step: Literal["made", "ready", "ended"]
    at_s: float
    replica_id: str
    model: str
    server_id: str
    gpu_indices: tuple[int, ...]
    source: StorageTier | None = None
    transfer_s: float = 0.0


class Replica:
    """One instance of a model on one of the nodes.

    Args:
        model: What it serves.
        nodes: By Ray's node id.
        directory: Where its life is written down, beside those of all others.
    """

    def __init__(self, model: ModelDeployment, nodes: Mapping[str, Node], directory: Path) -> None:
        context = ray.get_runtime_context()
        self._model = model
        self._node = nodes[context.get_node_id()]
        actor_id = context.get_actor_id()
        assert actor_id is not None, "Ray Serve makes actors"
        self._id = actor_id[:12]
        self._file = directory / LIVES
        self._numbers = itertools.count()
        self._live("made")
        began_at_s = time.time()
        source = self._node.load(model.name, model.size_bytes, model.num_gpus)
        transfer_s = time.time() - began_at_s
        self._engine = EngineThread(make_engine(model, None, None))
        self._live("ready", source, transfer_s)

    async def generate(
        self, request_id: str, prompt: tuple[int, ...], max_output_tokens: int
    ) -> AsyncIterator[tuple[str, float] | int]:
        """The replica's id and when the request began to run, then its tokens."""
        yield self._id, time.time()
        sequence_id = f"{request_id}/{next(self._numbers)}"  # Ray may send a request again
        spec = SequenceSpec(sequence_id, prompt, max_output_tokens)
        async for token in self._engine.generate(spec):
            yield token

    def __del__(self) -> None:
        """What Ray Serve calls before it ends a replica."""
        self._live("ended")

    def _live(
        self,
        step: Literal["made", "ready", "ended"],
        source: StorageTier | None = None,
        transfer_s: float = 0.0,
    ) -> None:
        life = Life(
            step,
            time.time(),
            self._id,
            self._model.name,
            self._node.server_id,
            tuple(int(index) for index in ray.get_gpu_ids()),
            source,
            transfer_s,
        )
        with self._file.open("ab") as file:
            file.write(msgspec.json.encode(life) + b"\n")
