"""Small stories of a cluster, told so that the decisions do not hang on a few milliseconds."""

from dataclasses import dataclass

from sllmcore.types import DRAM, Residency, ServerSpec

MODEL_BYTES = 1_000
CONTEXT_TOKENS = 4096
STEP_S = 0.01


@dataclass(frozen=True, slots=True)
class Reached:
    """The moment at which an earlier request has `tokens` output tokens, None: all."""

    request: int
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: when it comes, by the simulation's clock and, in a real cluster, by what has
    happened by then; and when its client leaves."""

    model: str
    output_tokens: int
    at_s: float = 0.0
    after: Reached | None = None
    input_tokens: int = 4
    leaves_at_s: float | None = None
    leaves_after: Reached | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who is there and what is asked. Every model has `num_slots` slots and one GPU."""

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
    """A tenth of a second from remote storage, a hundredth from DRAM."""
    return ServerSpec(name, num_gpus, 1 << 30, dram_bytes, 0, remote_bytes_per_s, 2e4, 1e5)


def in_dram(*models: str) -> tuple[Residency, ...]:
    return tuple(Residency(DRAM, model, MODEL_BYTES) for model in models)


SCENARIOS = (
    Scenario(
        "a cold start, a warm one, and a model that makes it leave",
        (server("s0"),),
        {},
        ("a", "b"),
        (
            Asked("a", 20),
            Asked("a", 20, 1.0, Reached(0)),
            Asked("b", 20, 2.0, Reached(1)),
            Asked("a", 20, 3.0, Reached(2)),
        ),
    ),
    Scenario(
        "two loads take turns on one path",
        (server("s0", num_gpus=2),),
        {},
        ("a", "b"),
        (Asked("a", 40), Asked("b", 40)),
    ),
    Scenario(
        "a running inference moves away for one whose weights are here",
        (server("s0"), server("s1", remote_bytes_per_s=1e1)),
        {"s0": in_dram("a", "b"), "s1": in_dram("a")},
        ("a", "b"),
        (Asked("a", 500), Asked("b", 20, 1.0, Reached(0, 80))),
    ),
    Scenario(
        "the same is stopped and begun again where the policy is to preempt",
        (server("s0"), server("s1", remote_bytes_per_s=1e1)),
        {"s0": in_dram("a", "b"), "s1": in_dram("a")},
        ("a", "b"),
        (Asked("a", 500), Asked("b", 20, 1.0, Reached(0, 80))),
        policy="shepherd",
    ),
    Scenario(
        "requests wait for a slot, and get it in their order",
        (server("s0"),),
        {},
        ("a",),
        (
            Asked("a", 50),
            Asked("a", 10, 0.3, Reached(0, 10)),
            Asked("a", 10, 0.35, Reached(0, 15)),
            Asked("a", 10, 0.4, Reached(0, 20)),
        ),
    ),
    Scenario(
        "a client leaves, and its slot is the next one's",
        (server("s0"),),
        {},
        ("a",),
        (
            Asked("a", 3000, leaves_at_s=0.8, leaves_after=Reached(0, 50)),
            Asked("a", 10, 0.3, Reached(0, 10)),
        ),
    ),
    Scenario(
        "a full pool makes room",
        (server("s0", dram_bytes=2_000),),
        {},
        ("a", "b", "c"),
        (
            Asked("a", 5),
            Asked("b", 5, 0.7, Reached(0)),
            Asked("c", 5, 1.4, Reached(1)),
            Asked("a", 5, 2.1, Reached(2)),
        ),
    ),
)
