"""The requests of a workload: the entry point of the package.

    rows of a trace -> cut -> scaled -> assigned to models (or re-sampled) -> lengths -> requests
    arrivals of a generator                                                -> lengths -> requests

Each row is a request, except the rows that `Account` counts elsewhere. A row with 0 output tokens
(an empty answer, or a failure that is kept) becomes a request with 1, because a running model
generates at least one token. A row with 0 input tokens becomes a request with 1.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import msgspec

from sllmcore.types import Request
from sllmcore.workload import WorkloadRequest
from traces.account import Account
from traces.assignment import Assign, by_first_call, by_function, by_name, by_popularity
from traces.errors import TraceError
from traces.generators import generated_rows
from traces.length_files import profile_of_file
from traces.lengths import LengthProfile, Lengths, length_profile, length_stream
from traces.mapping import function_mapping
from traces.model_names import ModelNames
from traces.rate_scaling import at_rate, at_speed
from traces.read import ReadOptions
from traces.report import TraceReport
from traces.request_checks import at_least_one, with_long_ones_noted
from traces.resampling import (
    ABSOLUTE_WINDOW_S,
    DEFAULT_CV,
    FITTED_WINDOW_S,
    Resampling,
    resampled_counts,
    resampled_rows,
)
from traces.rows import TraceRow
from traces.seeding import generator
from traces.spec import DEFAULT_LENGTHS, WorkloadSpec
from traces.trace import Survey, Trace

MAX_RATE_FACTOR = 1000.0  # copies of a row; more would be a trace of a single burst


def workload_requests(
    spec: WorkloadSpec,
    models: Sequence[str],
    seed: int,
    account: Account | None = None,
    report: TraceReport | None = None,
) -> Iterator[WorkloadRequest]:
    """Yield requests in order of arrival, with ids r0, r1, ...; equal arguments, equal requests.

    Args:
        spec: The workload.
        models: Names of the deployed models, most popular first unless the spec shuffles them.
        seed: Seed of all random draws; 0 or more.
        account: Counters, filled while the requests are taken.
        report: How a trace is read, filled while the requests are taken.

    Raises:
        TraceError: At once for a bad argument or file header, while iterating for a bad row, and
            at the end if there was no request.
    """
    _check_models(models)
    generator(seed)  # checks the seed before any file is read
    account, report = account or Account(), report or TraceReport()
    rows = (
        _counted(generated_rows(spec, models, seed), account)
        if spec.generated
        else _trace_rows(spec, models, seed, account, report)
    )
    profile = _profile(spec, report)
    requests = _with_lengths(spec, islice(rows, spec.max_requests), profile, seed, account)
    return at_least_one(spec, with_long_ones_noted(requests, report), account)


def _profile(spec: WorkloadSpec, report: TraceReport) -> LengthProfile | None:
    if spec.lengths is None:
        return None
    if spec.length_file is not None:
        return profile_of_file(spec.length_file, report)
    return length_profile(spec.lengths)


def _check_models(models: Sequence[str]) -> None:
    if not models:
        raise TraceError("a workload needs at least one model, got none")
    if len(set(models)) != len(models):
        twice = next(model for model in models if list(models).count(model) > 1)
        raise TraceError(f"model {twice!r} is named twice: the names of models must differ")


def _counted(rows: Iterator[TraceRow], account: Account) -> Iterator[TraceRow]:
    for row in rows:
        account.generated += 1
        yield row


def _with_lengths(
    spec: WorkloadSpec,
    rows: Iterator[TraceRow],
    profile: LengthProfile | None,
    seed: int,
    account: Account,
) -> Iterator[WorkloadRequest]:
    draw = _LengthDraws(profile, seed)
    limits = spec.limits
    for index, row in enumerate(rows):
        lengths = limits.cut(draw.lengths(row))
        leaves_at_s = None if spec.patience_s is None else row.at_s + spec.patience_s
        account.jobs += 1
        yield WorkloadRequest(
            Request(f"r{index}", row.source, row.at_s, lengths.input_tokens),
            lengths.output_tokens,
            leaves_at_s,
        )


class _LengthDraws:
    """The lengths of rows: those of the trace, or drawn from a profile per model."""

    def __init__(self, profile: LengthProfile | None, seed: int) -> None:
        self._profile = profile
        self._seed = seed
        self._streams: dict[str, Iterator[Lengths]] = {}

    def lengths(self, row: TraceRow) -> Lengths:
        has_own = row.input_tokens is not None and row.output_tokens is not None
        if self._profile is None and has_own:
            return Lengths(max(1, row.input_tokens or 0), max(1, row.output_tokens or 0))
        stream = self._streams.get(row.source)
        if stream is None:
            profile = self._profile or length_profile(DEFAULT_LENGTHS)
            stream = length_stream(profile, generator(self._seed, "lengths", row.source))
            self._streams[row.source] = stream
        return next(stream)


def _trace_rows(
    spec: WorkloadSpec, models: Sequence[str], seed: int, account: Account, report: TraceReport
) -> Iterator[TraceRow]:
    """Yield rows with their model as source and times from 0."""
    options = ReadOptions(
        spec.format,
        spec.failed_rows,
        spec.tolerance_s,
        spec.minute_gaps,
        seed,
        spec.time_unit,
        spec.columns,
        keeps_clock=spec.kind == "jobs",
    )
    trace = Trace(spec.paths, options, report)
    stretch_s = None if spec.scaling == "time" else spec.duration_s
    until_s = None if stretch_s is None else spec.start_s + stretch_s
    needs_survey = (
        spec.target_rps is not None or spec.mapping == "blocks" or trace.counts is not None
    )
    survey = trace.survey(spec.start_s, until_s) if needs_survey else None
    factor = _rate_factor(spec, survey)
    assign = _assignment(spec, models, seed, survey, trace=trace, report=report)
    if spec.cv_reading is not None:
        return _resampled(spec, trace, assign, factor, seed, account)
    by_count = factor is not None and spec.scaling == "rate" and trace.thins_counts(factor)
    kept = trace.rows(account, factor) if by_count and factor is not None else trace.rows(account)
    cut = _from_start(kept, spec.start_s, account)
    if factor is not None and spec.scaling == "time":
        cut = at_speed(cut, factor)
    cut = _until(cut, spec.duration_s, account)
    if factor is not None and spec.scaling == "rate" and not by_count:
        cut = at_rate(cut, factor, generator(seed, "rate"), account)
    return _assigned(cut, assign)


def _rate_factor(spec: WorkloadSpec, survey: Survey | None) -> float | None:
    """Return the factor on the rate; None: the rate stays."""
    if spec.target_rps is None:
        return spec.rate_factor
    assert survey is not None
    if survey.rate_rps == 0:
        raise TraceError(
            f"target_rps needs a trace with a rate, but from {spec.start_s:g} s on it has "
            f"{survey.num_rows} rows in {survey.span_s:g} s",
            spec.paths[0],
        )
    factor = spec.target_rps / survey.rate_rps
    if factor > MAX_RATE_FACTOR and spec.scaling == "rate":
        raise TraceError(
            f"target_rps {spec.target_rps:g} would copy each row {factor:.0f} times, more than "
            f"{MAX_RATE_FACTOR:g}: the trace has {survey.rate_rps:.3g} requests/s (check its "
            "times, or use scaling=time)",
            spec.paths[0],
        )
    return factor


def _assignment(
    spec: WorkloadSpec,
    models: Sequence[str],
    seed: int,
    survey: Survey | None,
    *,
    trace: Trace,
    report: TraceReport,
) -> Assign:
    if spec.kind == "jobs":
        report.mapping = "rows go to the model that they name"
        return by_name(models)
    drawn = by_popularity(spec.popularity, models, seed)
    if spec.mapping == "popularity":
        report.mapping = f"drawn by popularity, of {len(models)}"
        return drawn
    if spec.mapping == "names" or (spec.mapping == "auto" and trace.names_models):
        services = trace.names_services and spec.mapping == "auto"
        return ModelNames(models, drawn, report, names_services=services).assign
    mapping = function_mapping(spec.mapping)
    named = (
        by_first_call(models, report)
        if survey is None
        else by_function(survey.sources, models, mapping, report)
    )
    report.mapping = f"{mapping}, of {len(models)}"
    return lambda source: named(source) if source else drawn(source)


def _resampled(
    spec: WorkloadSpec,
    trace: Trace,
    assign: Assign,
    factor: float | None,
    seed: int,
    account: Account,
) -> Iterator[TraceRow]:
    assert spec.cv_reading is not None
    assert not isinstance(spec.cv, tuple)
    default_s = ABSOLUTE_WINDOW_S if spec.cv_reading == "absolute" else FITTED_WINDOW_S
    how = Resampling(
        spec.cv_reading,
        DEFAULT_CV if spec.cv is None else spec.cv,
        default_s if spec.window_s is None else spec.window_s,
        1.0 if factor is None else factor,
    )
    if trace.counts is not None and how.reading == "absolute":
        until_s = None if spec.duration_s is None else spec.start_s + spec.duration_s
        counts = trace.counts.cut(spec.start_s, until_s)
        made = resampled_counts(counts, how, assign, seed, account)
    else:
        cut = _from_start(trace.rows(account), spec.start_s, account)
        made = resampled_rows(_until(cut, spec.duration_s, account), how, assign, seed, account)
    return _until(made, spec.duration_s, account)


def _from_start(rows: Iterator[TraceRow], start_s: float, account: Account) -> Iterator[TraceRow]:
    if start_s == 0:
        yield from rows
        return
    for row in rows:
        if row.at_s < start_s:
            account.before_start += 1
        else:
            yield msgspec.structs.replace(row, at_s=row.at_s - start_s)


def _until(
    rows: Iterator[TraceRow], duration_s: float | None, account: Account
) -> Iterator[TraceRow]:
    for row in rows:
        if duration_s is not None and row.at_s >= duration_s:
            account.after_end += 1
            return
        yield row


def _assigned(rows: Iterator[TraceRow], assign: Callable[[str], str]) -> Iterator[TraceRow]:
    for row in rows:
        yield TraceRow(row.at_s, assign(row.source), row.input_tokens, row.output_tokens)
