"""Scenarios of a small cluster in which no decision depends on a few milliseconds."""

from dataclasses import dataclass

from sllmcore.types import DRAM, Residency, ServerSpec

MODEL_BYTES = 1_000
CONTEXT_TOKENS = 4096
STEP_S = 0.01


@dataclass(frozen=True, slots=True)
class Reached:
    """The moment at which an earlier request has `tokens` output tokens; None: all of them."""

    request: int
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, its arrival and the time at which its client leaves.

    The simulator uses the times `..._at_s`; a real cluster uses the moments `after` and
    `leaves_after`.
    """

    model: str
    output_tokens: int
    at_s: float = 0.0
    after: Reached | None = None
    input_tokens: int = 4
    leaves_at_s: float | None = None
    leaves_after: Reached | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Servers, models and requests. Every instance has one GPU and `num_slots` slots."""

    name: str
    servers: tuple[ServerSpec, ...]
    resident: dict[str, tuple[Residency, ...]]
    models: tuple[str, ...]
    asked: tuple[Asked, ...]
    policy: str = "serverlessllm"
    num_slots: int = 1


def server(
    name: str, num_gpus: int = 1, remote_bytes_per_s: float = 1e4, dram_bytes: int = 10_000
) -> ServerSpec:
    """Return a server that loads a model in 0.1 s from remote storage, in 0.01 s from DRAM."""
    return ServerSpec(
        id=name,
        num_gpus=num_gpus,
        gpu_memory_bytes=1 << 30,
        dram_bytes=dram_bytes,
        ssd_bytes=0,
        remote_bytes_per_s=remote_bytes_per_s,
        ssd_bytes_per_s=2e4,
        dram_bytes_per_s=1e5,
    )


def in_dram(*models: str) -> tuple[Residency, ...]:
    return tuple(Residency(DRAM, model, MODEL_BYTES) for model in models)


SCENARIOS = (
    Scenario(
        name="a cold start, a warm start, and a model that takes the GPU",
        servers=(server("s0"),),
        resident={},
        models=("a", "b"),
        asked=(
            Asked("a", 20),
            Asked("a", 20, 1.0, Reached(0)),
            Asked("b", 20, 2.0, Reached(1)),
            Asked("a", 20, 3.0, Reached(2)),
        ),
    ),
    Scenario(
        name="two loads take turns on one path",
        servers=(server("s0", num_gpus=2),),
        resident={},
        models=("a", "b"),
        asked=(Asked("a", 40), Asked("b", 40)),
    ),
    Scenario(
        name="a running request migrates away from the server that holds the next model",
        servers=(server("s0"), server("s1", remote_bytes_per_s=1e1)),
        resident={"s0": in_dram("a", "b"), "s1": in_dram("a")},
        models=("a", "b"),
        asked=(Asked("a", 500), Asked("b", 20, 1.0, Reached(0, 80))),
    ),
    Scenario(
        name="the same with a policy that preempts: the request is stopped and restarts",
        servers=(server("s0"), server("s1", remote_bytes_per_s=1e1)),
        resident={"s0": in_dram("a", "b"), "s1": in_dram("a")},
        models=("a", "b"),
        asked=(Asked("a", 500), Asked("b", 20, 1.0, Reached(0, 80))),
        policy="shepherd",
    ),
    Scenario(
        name="requests wait for a slot and get it in their order",
        servers=(server("s0"),),
        resident={},
        models=("a",),
        asked=(
            Asked("a", 50),
            Asked("a", 10, 0.3, Reached(0, 10)),
            Asked("a", 10, 0.35, Reached(0, 15)),
            Asked("a", 10, 0.4, Reached(0, 20)),
        ),
    ),
    Scenario(
        name="a client leaves, and the next request gets its slot",
        servers=(server("s0"),),
        resident={},
        models=("a",),
        asked=(
            Asked("a", 3000, leaves_at_s=0.8, leaves_after=Reached(0, 50)),
            Asked("a", 10, 0.3, Reached(0, 10)),
        ),
    ),
    Scenario(
        name="a full DRAM pool evicts models",
        servers=(server("s0", dram_bytes=2_000),),
        resident={},
        models=("a", "b", "c"),
        asked=(
            Asked("a", 5),
            Asked("b", 5, 0.7, Reached(0)),
            Asked("c", 5, 1.4, Reached(1)),
            Asked("a", 5, 2.1, Reached(2)),
        ),
    ),
)
