"""The phases of a cold start that move no bytes, each with a distribution of its duration.

    startup = before + max(overlapped, transfer) + after

`transfer` is the time of the phases that move bytes (fetch, read, copy); they contend for links and
are simulated there. The durations of the others are drawn here. They are constant, or lognormal
with a given median and p99: duration = median * exp(sigma z), sigma = ln(p99 / median) / 2.326.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import exp, fsum, isfinite, log
from random import Random
from statistics import NormalDist

from sllmcore.errors import UsageError

Z_P99 = 2.3263478740408408  # the standard normal's 99th percentile
_NORMAL = NormalDist()


class PhaseKind(StrEnum):
    """The phases in the order of a start without overlap."""

    PROVISION = "provision"  # container or process
    ENGINE_INIT = "engine_init"  # imports, device context
    FETCH = "fetch"
    READ = "read"
    COPY = "copy"
    GRAPH = "graph"  # compilation, CUDA graph capture
    WARMUP = "warmup"  # memory profiling, first pass


class Resource(StrEnum):
    """A resource that a phase keeps busy."""

    HOST = "host"
    NETWORK = "network"
    SSD = "ssd"
    PCIE = "pcie"
    GPU = "gpu"


RESOURCES: Mapping[PhaseKind, Resource] = {
    PhaseKind.PROVISION: Resource.HOST,
    PhaseKind.ENGINE_INIT: Resource.HOST,
    PhaseKind.FETCH: Resource.NETWORK,
    PhaseKind.READ: Resource.SSD,
    PhaseKind.COPY: Resource.PCIE,
    PhaseKind.GRAPH: Resource.GPU,
    PhaseKind.WARMUP: Resource.GPU,
}

TRANSFER_KINDS = frozenset({PhaseKind.FETCH, PhaseKind.READ, PhaseKind.COPY})


class Order(StrEnum):
    """The place of a phase relative to the transfer of the weights."""

    BEFORE = "before"
    OVERLAPPED = "overlapped"  # during the transfer, one phase after another
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Duration:
    """A lognormal distribution; constant if `sigma` is 0."""

    median_s: float
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not (isfinite(self.median_s) and self.median_s >= 0):
            raise UsageError(f"median_s must be finite and >= 0, got {self.median_s}")
        if not (isfinite(self.sigma) and self.sigma >= 0):
            raise UsageError(f"sigma must be finite and >= 0, got {self.sigma}")

    def draw_s(self, rng: Random) -> float:
        """Draw a duration. Takes one number from `rng`; none for a constant."""
        if self.sigma == 0:
            return self.median_s
        uniform = rng.random() or 2.0**-54  # inv_cdf has no value at 0
        return self.median_s * exp(self.sigma * _NORMAL.inv_cdf(uniform))


def duration_with_p99(median_s: float, p99_s: float) -> Duration:
    """Return the lognormal distribution with this median and 99th percentile."""
    if not 0 < median_s <= p99_s:
        raise UsageError(f"0 < median_s <= p99_s must hold, got {median_s} and {p99_s}")
    return Duration(median_s, log(p99_s / median_s) / Z_P99)


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """A phase of a `PhaseModel`. `source` names the source of its duration and its grade."""

    kind: PhaseKind
    order: Order
    duration: Duration
    source: str

    def __post_init__(self) -> None:
        if self.kind in TRANSFER_KINDS:
            raise UsageError(f"{self.kind} moves bytes: the links give its duration, leave it out")


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of one cold start, with the duration that was drawn."""

    kind: PhaseKind
    order: Order
    duration_s: float

    @property
    def resource(self) -> Resource:
        return RESOURCES[self.kind]


@dataclass(frozen=True, slots=True)
class ColdStartPhases:
    """The phases of one cold start that move no bytes, in their order."""

    by_phase: tuple[Phase, ...] = ()

    @property
    def before_s(self) -> float:
        return self._sum_s(Order.BEFORE)

    @property
    def overlapped_s(self) -> float:
        return self._sum_s(Order.OVERLAPPED)

    @property
    def after_s(self) -> float:
        return self._sum_s(Order.AFTER)

    def startup_s(self, transfer_s: float) -> float:
        """Return the seconds of the whole start, with a transfer of `transfer_s`."""
        return self.before_s + max(self.overlapped_s, transfer_s) + self.after_s

    def _sum_s(self, order: Order) -> float:
        if not self.by_phase:
            return 0.0
        return fsum(phase.duration_s for phase in self.by_phase if phase.order is order)


NO_PHASES = ColdStartPhases()


@dataclass(frozen=True, slots=True)
class PhaseModel:
    """The distribution of cold starts apart from their transfers."""

    name: str
    phases: tuple[PhaseSpec, ...] = ()

    def draw(self, rng: Random) -> ColdStartPhases:
        """Draw a cold start."""
        if not self.phases:
            return NO_PHASES
        return ColdStartPhases(
            tuple(Phase(spec.kind, spec.order, spec.duration.draw_s(rng)) for spec in self.phases)
        )

    def median(self) -> ColdStartPhases:
        """Return the cold start with each phase at its median: a prior for an estimator."""
        return ColdStartPhases(
            tuple(Phase(spec.kind, spec.order, spec.duration.median_s) for spec in self.phases)
        )


_HYDRASERVE = "HydraServe, arXiv 2502.15524, as reported by a secondary source [Q]"
_VLLM = "vLLM issue 20264: one start, Llama-3.2 (3.4 GiB), compile cache warm [F]; p99 1.5x assumed"

_PROVISION = Duration(8.52)
_INIT = (
    PhaseSpec(
        PhaseKind.ENGINE_INIT,
        Order.OVERLAPPED,
        Duration(2.65),
        f"import of libraries: {_HYDRASERVE}",
    ),
    PhaseSpec(PhaseKind.ENGINE_INIT, Order.OVERLAPPED, Duration(1.56), f"context: {_HYDRASERVE}"),
)
_INIT_BEFORE = tuple(
    PhaseSpec(spec.kind, Order.BEFORE, spec.duration, spec.source) for spec in _INIT
)
_COMPILE_AND_CAPTURE = (
    PhaseSpec(PhaseKind.GRAPH, Order.AFTER, duration_with_p99(7.51, 11.3), f"compile: {_VLLM}"),
    PhaseSpec(PhaseKind.GRAPH, Order.AFTER, duration_with_p99(17.0, 25.5), f"capture: {_VLLM}"),
    # 34.11 s of engine start in that log, less the two phases above
    PhaseSpec(PhaseKind.WARMUP, Order.AFTER, duration_with_p99(9.6, 14.4), f"the rest: {_VLLM}"),
)
_ROWS = (
    PhaseModel("paper"),  # ServerlessLLM's evaluation: the loading is the start
    PhaseModel("process", _INIT + _COMPILE_AND_CAPTURE),  # plain start of a compiling engine
    PhaseModel(
        "container",  # a serverless platform without overlap; HydraServe gives no graph phase
        (
            PhaseSpec(PhaseKind.PROVISION, Order.BEFORE, _PROVISION, _HYDRASERVE),
            *_INIT_BEFORE,
        ),
    ),
    PhaseModel(
        "container_overlapped",  # HydraServe's own: the node fetches while the container starts
        (PhaseSpec(PhaseKind.PROVISION, Order.OVERLAPPED, _PROVISION, _HYDRASERVE), *_INIT),
    ),
    PhaseModel(
        "warm_engine",  # an initialised engine process that only lacks its weights
        (
            PhaseSpec(
                PhaseKind.ENGINE_INIT,
                Order.BEFORE,  # memory is mapped before bytes can land in it
                duration_with_p99(0.2, 0.4),
                "vLLM sleep mode wakes small models in 0.1-0.4 s, copy included [F]: upper bound",
            ),
        ),
    ),
    PhaseModel(
        "weight_daemon",  # another process holds the weights; the engine itself starts as usual
        (
            *_INIT,
            PhaseSpec(
                PhaseKind.ENGINE_INIT,
                Order.AFTER,
                Duration(1.30),
                "mapping by CUDA IPC, SGLang PR 27139: 5.05 s before, 1.30 s after it [F]",
            ),
            *_COMPILE_AND_CAPTURE,
        ),
    ),
    PhaseModel(
        "snapshot",  # a process image restored, device state included
        (
            PhaseSpec(
                PhaseKind.PROVISION,
                Order.BEFORE,
                duration_with_p99(10.0, 20.0),
                "NVIDIA Dynamo Snapshot: about 10 s, under 5 s at best [F]; p99 assumed. Weights of"
                " small models are in it: upper bound",
            ),
        ),
    ),
)

PRESETS: Mapping[str, PhaseModel] = {model.name: model for model in _ROWS}


def preset_named(name: str) -> PhaseModel:
    """Return a preset by its name.

    Raises:
        UsageError: There is no such preset; the message lists all.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown cold-start preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]
