"""A `TraceSummary` as a table on a terminal."""

from collections.abc import Iterator

from rich.table import Table

from traces.summary import LengthSummary, TraceSummary


def summary_table(title: str, summary: TraceSummary) -> Table:
    """Return a table of two columns: a quantity with its unit, and its value."""
    table = Table(title=title, title_justify="left")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    for quantity, value in _lines(summary):
        table.add_row(quantity, value)
    return table


def shown(value: float | None) -> str:
    """Return a number with four digits; a dash for None (the trace is too short)."""
    if value is None:
        return "-"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _lines(summary: TraceSummary) -> Iterator[tuple[str, str]]:
    yield "requests", shown(summary.num_rows)
    yield "span, s", shown(summary.span_s)
    yield "rate, requests/s", shown(summary.rate_rps)
    yield "busiest minute, requests/s", shown(summary.peak_minute_rps)
    yield "CV of gaps", shown(summary.gap_cv)
    for quantile in summary.gap_quantiles_s:
        yield f"gap p{100 * quantile.probability:g}, s", shown(quantile.value)
    for dispersion in summary.dispersion:
        yield f"index of dispersion, {dispersion.window_s} s", shown(dispersion.value)
    for correlation in summary.minute_correlation:
        yield f"autocorrelation of minutes, lag {correlation.lag}", shown(correlation.value)
    yield "10-s windows without a request", _percent(summary.empty_10s_fraction)
    if summary.num_sources:
        yield "functions, models or clients", shown(summary.num_sources)
        yield "share of the top 1 %", _percent(summary.top_1_percent_share)
        yield "share of the top 10 %", _percent(summary.top_10_percent_share)
    yield from _length_lines("input", summary.input_tokens)
    yield from _length_lines("output", summary.output_tokens)


def _length_lines(side: str, lengths: LengthSummary | None) -> Iterator[tuple[str, str]]:
    if lengths is None:
        return
    yield f"{side} tokens, mean", shown(lengths.mean)
    for quantile in lengths.quantiles:
        yield f"{side} tokens, p{100 * quantile.probability:g}", shown(quantile.value)
    yield f"{side} tokens, largest", shown(lengths.largest)


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"
