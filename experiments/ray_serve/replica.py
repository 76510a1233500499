"""The deployment that Ray Serve runs: a replica that loads its model, then serves it."""

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

EVENTS = "replica_events.jsonl"


class ReplicaEvent(msgspec.Struct, frozen=True):
    """An event that a replica writes to `EVENTS`: it was made, became ready, or ended.

    Attributes:
        at_s: Time by the wall clock.
        source: For `ready`, the tier that the model was loaded from.
        transfer_s: For `ready`, seconds of the load.
    """

    step: Literal["made", "ready", "ended"]
    at_s: float
    replica_id: str
    model: str
    server_id: str
    gpu_indices: tuple[int, ...]
    source: StorageTier | None = None
    transfer_s: float = 0.0


class Replica:
    """An instance of a model on a node.

    Args:
        model: The model to serve.
        nodes: Nodes by Ray's node id.
        directory: Folder of `EVENTS`, which all replicas append to.
    """

    def __init__(self, model: ModelDeployment, nodes: Mapping[str, Node], directory: Path) -> None:
        context = ray.get_runtime_context()
        self._model = model
        self._node = nodes[context.get_node_id()]
        actor_id = context.get_actor_id()
        assert actor_id is not None, "Ray Serve makes actors"
        self._id = actor_id[:12]
        self._file = directory / EVENTS
        self._numbers = itertools.count()
        self._record("made")
        began_at_s = time.time()
        source = self._node.load(model.name, model.size_bytes, model.num_gpus)
        transfer_s = time.time() - began_at_s
        self._engine = EngineThread(make_engine(model, None, None))
        self._record("ready", source, transfer_s)

    async def generate(
        self, request_id: str, prompt: tuple[int, ...], max_output_tokens: int
    ) -> AsyncIterator[tuple[str, float] | int]:
        """Yield the replica's id and the start time of the request, then its tokens."""
        yield self._id, time.time()
        sequence_id = f"{request_id}/{next(self._numbers)}"  # Ray may send a request again
        spec = SequenceSpec(sequence_id, prompt, max_output_tokens)
        async for token in self._engine.generate(spec):
            yield token

    def __del__(self) -> None:
        """Record the end; Ray Serve calls this before it stops a replica."""
        self._record("ended")

    def _record(
        self,
        step: Literal["made", "ready", "ended"],
        source: StorageTier | None = None,
        transfer_s: float = 0.0,
    ) -> None:
        event = ReplicaEvent(
            step=step,
            at_s=time.time(),
            replica_id=self._id,
            model=self._model.name,
            server_id=self._node.server_id,
            gpu_indices=tuple(int(index) for index in ray.get_gpu_ids()),
            source=source,
            transfer_s=transfer_s,
        )
        with self._file.open("ab") as file:
            file.write(msgspec.json.encode(event) + b"\n")
