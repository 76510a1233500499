"""What a workload is made of, in plain typed values that `msgspec.convert` reads from a dict.

Kinds that generate need `target_rps`, and `duration_s` or `max_requests`:

    poisson     steady arrivals per model
    gamma       Gamma gaps of CV `cv` (8 if not given; one for all models, or one for each)
    azure_like  `pattern` conv or code (an Azure LLM service) or functions (many CVs), with
                `diurnal` load if asked; `num_functions` functions mapped to the models if given

Kinds that read need `path` (one file, or the successive parts of a trace): azure_llm,
azure_functions_2019, azure_functions_2021, burstgpt, mooncake, servegen, `trace` (format told by
the first line), and `jobs` (what `traces export` wrote: models keep their names).
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from sllmcore.registry import UnknownNameError
from traces.errors import TraceError
from traces.lengths import LengthLimits, profile_names
from traces.mapping import Mapping
from traces.modulation import DiurnalProfile
from traces.ordering import DEFAULT_TOLERANCE_S
from traces.popularity import Popularity
from traces.read import FailedRows
from traces.registry import FORMATS
from traces.windows import MinuteGaps

GeneratorKind = Literal["azure_like", "gamma", "poisson"]
_DETECTED, _EXPORTED = "trace", "jobs"  # kinds of files besides the names of formats
_EXPORT_FORMAT = "mooncake"
Pattern = Literal["conv", "code", "functions"]
CvReading = Literal["absolute", "fitted"]
Scaling = Literal["rate", "time"]

DEFAULT_LENGTHS = "sharegpt"  # where neither the trace nor the spec says
MAX_CV = 1000.0  # bursts grow with its square


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """A workload.

    Args:
        kind: See the module.
        path: File or files of a trace.
        target_rps: Mean rate of all models together. A trace is brought to it by `scaling`.
        rate_factor: A factor on the rate of a trace, in place of `target_rps`.
        scaling: `rate` drops rows at random, or copies them into the gap to the next row, so that
            the movement over time stays; `time` plays the trace faster or slower.
        start_s: Where a trace is cut in, on its own clock; earlier rows are left out and counted.
        duration_s: Length of the workload; later arrivals are left out.
        max_requests: At most so many requests, the first ones.
        pattern: Of azure_like.
        cv: CV of the gaps, in place of the kind's own: one number, or one per model.
        cv_reading: Re-sample a functions trace per model and window by a Gamma process.
            `absolute`: its CV is `cv`. `fitted`: its CV is the window's own times `cv`.
        window_s: Of the re-sampling; 60 for absolute, 600 for fitted if None.
        mapping: Functions to models. Rows that name no function, or all rows with `popularity`,
            go to models drawn by their popularity.
        num_functions: Functions that azure_like draws; None: each model is one.
        minute_gaps: How a count is spread over its minute.
        popularity: Shares of the models; also says who gets the rows of a trace without models.
        diurnal: Load over the week that azure_like follows, from hour `start_hour` of it.
        lengths: A length profile; None: the trace's own lengths, or ShareGPT's if it has none.
        context_limit_tokens, total_limit_tokens: See LengthLimits.
        failed_rows: What becomes of BurstGPT's failed requests.
        tolerance_s: How far times of a trace may go back.
        patience_s: A client leaves when it was not served so long after its arrival.
    """

    kind: str
    path: str | tuple[str, ...] = ()
    target_rps: float | None = None
    rate_factor: float | None = None
    scaling: Scaling = "rate"
    start_s: float = 0.0
    duration_s: float | None = None
    max_requests: int | None = None
    pattern: Pattern = "functions"
    cv: float | tuple[float, ...] | None = None
    cv_reading: CvReading | None = None
    window_s: float | None = None
    mapping: Mapping = "stripe"
    num_functions: int | None = None
    minute_gaps: MinuteGaps = "uniform"
    popularity: Popularity = field(default_factory=Popularity)
    diurnal: DiurnalProfile | None = None
    start_hour: float = 0.0
    lengths: str | None = None
    context_limit_tokens: int | None = None
    total_limit_tokens: int | None = None
    failed_rows: FailedRows = "drop"
    tolerance_s: float = DEFAULT_TOLERANCE_S
    patience_s: float | None = None

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        _check_numbers(self)
        if self.generated:
            _check_generated(self)
        else:
            _check_read(self)
        if self.lengths is not None and self.lengths not in profile_names():
            known = ", ".join(profile_names())
            raise TraceError(f"no length profile {self.lengths!r}; there are {known}")

    @property
    def generated(self) -> bool:
        """Whether the workload needs no file."""
        return self.kind in get_args(GeneratorKind)

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else tuple(self.path)

    @property
    def format(self) -> str | None:
        """Format of the files; None if their first line has to tell."""
        return {_DETECTED: None, _EXPORTED: _EXPORT_FORMAT}.get(self.kind, self.kind)

    @property
    def limits(self) -> LengthLimits:
        return LengthLimits(self.context_limit_tokens, self.total_limit_tokens)


def kinds() -> tuple[str, ...]:
    """Return the kinds of workloads: generators, installed formats, `trace` and `jobs`."""
    return (*get_args(GeneratorKind), *FORMATS.names(), _DETECTED, _EXPORTED)


def _check_kind(kind: str) -> None:
    known = (*get_args(GeneratorKind), _DETECTED, _EXPORTED)
    if kind in known or kind in FORMATS:
        return
    try:
        FORMATS[kind]
    except UnknownNameError as error:
        raise TraceError(f"unknown kind {kind!r}, known are {', '.join(kinds())}") from error


def _check_numbers(spec: WorkloadSpec) -> None:
    for name in (
        "target_rps",
        "rate_factor",
        "duration_s",
        "max_requests",
        "window_s",
        "num_functions",
        "patience_s",
    ):
        value = getattr(spec, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise TraceError(f"{name} must be positive, got {value}")
    for name in ("start_s", "start_hour", "tolerance_s"):
        if not (math.isfinite(getattr(spec, name)) and getattr(spec, name) >= 0):
            raise TraceError(f"{name} must be 0 or more, got {getattr(spec, name)}")
    for cv in spec.cv if isinstance(spec.cv, tuple) else (spec.cv,):
        if cv is not None and not 0 <= cv <= MAX_CV:
            raise TraceError(f"cv must be from 0 to {MAX_CV:g}, got {cv}")
    LengthLimits(spec.context_limit_tokens, spec.total_limit_tokens)


def _check_generated(spec: WorkloadSpec) -> None:
    if spec.paths:
        raise TraceError(f"kind {spec.kind} reads no file, but path is {spec.path!r}")
    if spec.target_rps is None:
        raise TraceError(f"kind {spec.kind} needs target_rps")
    if spec.duration_s is None and spec.max_requests is None:
        raise TraceError(f"kind {spec.kind} never ends: give duration_s or max_requests")
    for name in ("rate_factor", "cv_reading"):
        if getattr(spec, name) is not None:
            raise TraceError(f"{name} has no meaning for kind {spec.kind}, which reads no trace")
    only_azure_like = spec.diurnal is not None or spec.num_functions is not None
    if only_azure_like and spec.kind != "azure_like":
        raise TraceError(f"diurnal and num_functions belong to azure_like, not {spec.kind}")
    if spec.kind == "poisson" and spec.cv is not None:
        raise TraceError("a Poisson process has CV 1: use kind gamma for another cv")
    if spec.kind == "azure_like" and spec.pattern == "code" and spec.cv is not None:
        raise TraceError("the pattern code is made of bursts: it takes no cv")
    if spec.mapping == "popularity":
        raise TraceError("mapping popularity deals out the rows of a trace; here there are none")
    if isinstance(spec.cv, tuple) and spec.num_functions is not None:
        raise TraceError("a cv per model cannot be had together with num_functions")


def _check_read(spec: WorkloadSpec) -> None:
    if not spec.paths:
        raise TraceError(f"kind {spec.kind} needs the path of a file")
    if spec.target_rps is not None and spec.rate_factor is not None:
        raise TraceError("target_rps and rate_factor exclude each other")
    if spec.diurnal is not None or spec.num_functions is not None:
        raise TraceError(f"diurnal and num_functions belong to azure_like, not {spec.kind}")
    functions = spec.format is not None and FORMATS[spec.format].names_functions
    if spec.cv_reading is not None and not functions:
        raise TraceError(f"cv_reading belongs to the Azure Functions traces, not {spec.kind}")
    if spec.cv_reading is not None and spec.scaling == "time":
        raise TraceError("a re-sampled trace is scaled by its rate, not by time")
    if spec.cv_reading is None and (spec.cv is not None or spec.window_s is not None):
        raise TraceError("cv and window_s of a trace need a cv_reading: absolute or fitted")
    if spec.cv_reading is not None and spec.mapping == "popularity":
        raise TraceError("re-sampling needs functions mapped to models: stripe or blocks")
    if isinstance(spec.cv, tuple):
        raise TraceError("a cv per model belongs to the kinds that generate")
