"""The specification of a workload, in plain typed values that `msgspec.convert` reads from a dict.

Generated kinds need `target_rps`, and `duration_s` or `max_requests`:

    poisson     Poisson arrivals for each model
    gamma       Gamma gaps of CV `cv` (default 8; one value for all models, or one for each)
    azure_like  like an Azure service, by `pattern`: conv or code (LLM services), or functions (a
                CV for each function). `diurnal` adds the load of a week. `num_functions` draws
                that many functions, which are mapped to the models.

Kinds that read files need `path` (a file, or the parts of a trace in order): the formats of
`traces.detect`, `trace` (the first line identifies the format; with `columns`, any table), and
`jobs` (written by `traces export`; the models keep their names and the times their clock).
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from sllmcore.registry import UnknownNameError
from traces.errors import TraceError
from traces.formats.table import Columns
from traces.lengths import LengthLimits, profile_names
from traces.mapping import Mapping
from traces.modulation import DiurnalProfile
from traces.ordering import DEFAULT_TOLERANCE_S
from traces.popularity import Popularity
from traces.read import FailedRows
from traces.registry import FORMATS
from traces.time_unit import TimeUnit
from traces.windows import MinuteGaps

GeneratorKind = Literal["azure_like", "gamma", "poisson"]
_DETECTED, _EXPORTED = "trace", "jobs"  # kinds of files besides the names of formats
_EXPORT_FORMAT = "mooncake"
Pattern = Literal["conv", "code", "functions"]
CvReading = Literal["absolute", "fitted"]
Scaling = Literal["rate", "time"]

DEFAULT_LENGTHS = "sharegpt"  # where neither the trace nor the spec has lengths
MAX_CV = 1000.0  # the size of bursts grows with the square of the CV


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """A workload.

    Args:
        kind: Generator or trace format, see the module.
        path: File or files of a trace.
        target_rps: Mean rate of all models together. A trace is scaled to it (`scaling`).
        rate_factor: Factor on the rate of a trace, instead of `target_rps`.
        scaling: `rate` drops rows at random, or copies them into the gap before them, so that the
            variation of the rate over time stays. `time` scales the times.
        start_s: Start of the workload, in seconds after the earliest row of the trace, or on the
            clock of the file for `jobs`. Earlier rows are dropped and counted.
        duration_s: Length of the workload; later arrivals are dropped.
        max_requests: Limit on the number of requests; the first ones are kept.
        pattern: The service that azure_like resembles.
        cv: CV of the gaps, instead of the default of the kind: one number, or one per model.
        cv_reading: Re-sample a functions trace per model and window by a Gamma process.
            `absolute`: its CV is `cv`. `fitted`: its CV is that of the window times `cv`.
        window_s: Window of the re-sampling; None: 60 for absolute, 600 for fitted.
        mapping: Mapping of the names in a trace to models (traces/mapping.py). Rows that name
            nothing are assigned to models drawn by popularity.
        num_functions: Number of functions of azure_like; None: each model is a function.
        minute_gaps: Placement of the arrivals of a count inside its minute.
        popularity: Shares of the models, also for rows of a trace that names no models.
        diurnal: Load over the week for azure_like, from hour `start_hour` of the week on.
        lengths: A length profile, or a file with lengths (traces/length_files.py). None: the
            lengths of the trace, or `DEFAULT_LENGTHS`.
        context_limit_tokens, total_limit_tokens: See LengthLimits.
        failed_rows: Drop or keep BurstGPT's failed requests.
        tolerance_s: Seconds by which a row of a trace may be earlier than rows before it.
        time_unit: Unit of a trace's numeric times; None: that of its format, or of stamps since
            1970.
        columns: Columns of a table that is in none of the formats: {time: NAME, input: NAME,
            output: NAME, model: NAME}, of which only time must be given. For `trace` and `table`.
        patience_s: A client cancels a request that is not served so long after its arrival.

    Raises:
        TraceError: A value is out of range, or contradicts another field.
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
    mapping: Mapping = "auto"
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
    time_unit: TimeUnit | None = None
    columns: Columns | None = None
    patience_s: float | None = None

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        _check_numbers(self)
        if self.generated:
            _check_generated(self)
        else:
            _check_read(self)
        if self.lengths is not None and not self._known_lengths:
            known = ", ".join(profile_names())
            raise TraceError(
                f"no length profile {self.lengths!r} and no such file; there are {known}"
            )

    @property
    def length_file(self) -> str | None:
        """The file that lengths are drawn from; None for a profile of the package."""
        return None if self.lengths in (None, *profile_names()) else self.lengths

    @property
    def _known_lengths(self) -> bool:
        return self.length_file is None or Path(self.length_file).is_file()

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the workload reads."""
        return self.paths if self.length_file is None else (*self.paths, self.length_file)

    @property
    def generated(self) -> bool:
        """True for a generated workload, which reads no file."""
        return self.kind in get_args(GeneratorKind)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files of the trace; empty for a generated workload."""
        return (self.path,) if isinstance(self.path, str) else tuple(self.path)

    @property
    def format(self) -> str | None:
        """Format of the files; None: to be detected from their first line."""
        return {_DETECTED: None, _EXPORTED: _EXPORT_FORMAT}.get(self.kind, self.kind)

    @property
    def limits(self) -> LengthLimits:
        """The limits on lengths."""
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
    for name in ("rate_factor", "cv_reading", "time_unit", "columns"):
        if getattr(spec, name) is not None:
            raise TraceError(
                f"{name} has no meaning for kind {spec.kind}, which reads no trace; remove it"
            )
    only_azure_like = spec.diurnal is not None or spec.num_functions is not None
    if only_azure_like and spec.kind != "azure_like":
        raise TraceError(f"diurnal and num_functions belong to azure_like, not {spec.kind}")
    if spec.kind == "poisson" and spec.cv is not None:
        raise TraceError("a Poisson process has CV 1: use kind gamma for another cv")
    if spec.kind == "azure_like" and spec.pattern == "code" and spec.cv is not None:
        raise TraceError("pattern code takes no cv, since its bursts have a law of their own")
    if spec.mapping in ("popularity", "names"):
        raise TraceError(
            f"mapping {spec.mapping} assigns the rows of a trace, and kind {spec.kind} reads none: "
            "use stripe or blocks"
        )
    if isinstance(spec.cv, tuple) and spec.num_functions is not None:
        raise TraceError("a cv per model excludes num_functions: give one cv for all functions")


def _check_read(spec: WorkloadSpec) -> None:
    if not spec.paths:
        raise TraceError(f"kind {spec.kind} needs the path of a file: give path")
    if spec.target_rps is not None and spec.rate_factor is not None:
        raise TraceError("target_rps and rate_factor exclude each other: give one of them")
    if spec.diurnal is not None or spec.num_functions is not None:
        raise TraceError(f"diurnal and num_functions belong to azure_like, not {spec.kind}")
    functions = spec.format is not None and FORMATS[spec.format].names_functions
    if spec.cv_reading is not None and not functions:
        raise TraceError(f"cv_reading belongs to the Azure Functions traces, not {spec.kind}")
    if spec.cv_reading is not None and spec.scaling == "time":
        raise TraceError("cv_reading needs scaling=rate, got time: it scales by rate, not by time")
    if spec.cv_reading is None and (spec.cv is not None or spec.window_s is not None):
        raise TraceError("cv and window_s of a trace need a cv_reading: absolute or fitted")
    if spec.cv_reading is not None and spec.mapping in ("popularity", "names"):
        raise TraceError(f"cv_reading needs mapping stripe or blocks, got {spec.mapping}")
    if spec.columns is not None and spec.kind not in ("trace", "table"):
        raise TraceError(f"columns belong to kind trace, not {spec.kind}, which has its own")
    if isinstance(spec.cv, tuple):
        raise TraceError("a cv per model is for generated kinds: give one cv for all models")
