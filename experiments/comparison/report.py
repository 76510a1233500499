"""report.html: a comparison on a single page that needs no other file and no network."""

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

import yaml

from experiments.comparison.cdf_picture import COLOURS
from experiments.comparison.cold_starts import cold_starts
from experiments.comparison.curves import Curve, left_edge_s, right_edge_s
from experiments.comparison.results import PolicyResult
from experiments.comparison.svg import Bar, SvgPart, cdf_panel, stacked_bars
from experiments.comparison.table import columns_for, seconds
from experiments.config.run_config import RunConfig, plain_config
from experiments.simulation.run_folder import CONFIG, ENV, INSTANCES, JOURNAL, REQUESTS, SUMMARY

_TEMPLATE = Path(__file__).with_name("report_template.html")
_TIERS = (("warm", "#009E73"), ("DRAM", "#56B4E9"), ("SSD", "#E69F00"), ("REMOTE", "#D55E00"))
_GPU_TIME = (
    ("busy", "#009E73"),
    ("loading", "#E69F00"),
    ("resident", "#56B4E9"),
    ("empty", "#cccccc"),
)


def report_html(
    folder: Path, results: Sequence[PolicyResult], curves: Sequence[Curve], picture: Path
) -> str:
    """Return the page; its links are relative to `folder`."""
    first = results[0].cells[0].cell
    environment = json.loads((first.folder / ENV).read_text())
    return Template(_TEMPLATE.read_text()).substitute(
        name=escape(first.config.name),
        setting=escape(_setting(first.config, results)),
        command=escape(" ".join(environment["command"])),
        key_figures=_key_figures(results),
        picture=base64.b64encode(picture.read_bytes()).decode(),
        panels=_panels(curves),
        starts=stacked_bars([_starts(result) for result in results]),
        gpu_time=stacked_bars([_gpu_time(result) for result in results]),
        cold_starts=_cold_starts(results),
        phases=_phases(first.config),
        all_figures=_all_figures(results),
        configs=_configs(results),
        environment=escape(json.dumps(environment, indent=2)),
        files=_files(folder, results),
    )


def _setting(config: RunConfig, results: Sequence[PolicyResult]) -> str:
    result = results[0]
    groups = config.cluster.servers.values()
    num_servers = sum(group.count for group in groups)
    num_gpus = sum(group.count * group.num_gpus for group in groups)
    seeds = ", ".join(str(cell.cell.config.seed) for cell in result.cells)
    return (
        f"{result.number('requests'):,.0f} requests for {len(config.models.names)} models in "
        f"{_length(result)}; {num_servers} servers with "
        f"{num_gpus} {config.cluster.gpu.name} in all; workload {config.workload.kind}; "
        f"seed {seeds}. All policies have the same requests. {_kind_of(results)}"
    )


def _length(result: PolicyResult) -> str:
    if result.real:
        return f"{result.number('measured_s') / 60:,.1f} minutes"
    return f"{result.number('simulated_s') / 60:,.0f} simulated minutes"


def _kind_of(results: Sequence[PolicyResult]) -> str:
    """Return a sentence: simulated, or measured on which kind of cluster."""
    real = [result.cells[0].cell.config.driver.real for result in results if result.real]
    if not real:
        return "Simulated, not measured."
    engines = "emulated by sleeping" if real[0] and real[0].engine_kind.paced else "on this CPU"
    return (
        f"Measured on a cluster of processes on one machine, with inferences {engines}. Rows with "
        "the suffix -predicted were simulated before the measurement."
    )


def _key_figures(results: Sequence[PolicyResult]) -> str:
    columns = columns_for(results)
    headings = [column.heading for column in columns]
    return table_html(headings, [[column.cell(r) for column in columns] for r in results])


def _panels(curves: Sequence[Curve]) -> str:
    left_s, right_s = left_edge_s(curves), right_edge_s(curves)
    return "".join(
        cdf_panel(curve, COLOURS[index % len(COLOURS)], left_s, right_s)
        for index, curve in enumerate(curves)
    )


def _starts(result: PolicyResult) -> Bar:
    amounts = [result.number("warm_starts")]
    amounts += [result.number(f"loads.{tier}") for tier, _ in _TIERS[1:]]
    return Bar(
        result.label,
        tuple(
            SvgPart(name, amount, f"{amount:,.0f}", colour)
            for (name, colour), amount in zip(_TIERS, amounts, strict=True)
        ),
    )


def _gpu_time(result: PolicyResult) -> Bar:
    resident_s = result.number("gpu_resident_s")
    amounts = [
        result.number("gpu_busy_s"),
        result.number("gpu_loading_s"),
        resident_s,
        max(0.0, result.number("gpu_idle_s") - resident_s),
    ]
    whole = sum(amounts) or 1.0
    return Bar(
        result.label,
        tuple(
            SvgPart(name, amount, f"{100 * amount / whole:.0f} %", colour)
            for (name, colour), amount in zip(_GPU_TIME, amounts, strict=True)
        ),
    )


def _cold_starts(results: Sequence[PolicyResult]) -> str:
    rows = [
        [
            row.label,
            row.source,
            f"{row.loads:,}",
            *map(seconds, (row.launch_s, row.transfer_s, row.startup_s, row.error_s)),
        ]
        for result in results
        for row in cold_starts(result)
    ]
    headings = ["policy", "from", "loads", "launch s", "transfer s", "other phases s", "error s"]
    return table_html(headings, rows)


def _phases(config: RunConfig) -> str:
    model = config.driver.phase_model
    name, phases = escape(model.name), model.phases
    if not phases:
        return f"<p>Preset <b>{name}</b>: a cold start is its transfer.</p>"
    rows = [
        [phase.kind.value, phase.order.value, seconds(phase.duration.median_s), phase.source]
        for phase in phases
    ]
    headings = ["phase", "relative to the transfer", "median s", "source"]
    return f"<p>Preset <b>{name}</b>:</p>" + table_html(headings, rows)


def _all_figures(results: Sequence[PolicyResult]) -> str:
    rows = [
        [name, *(_shown(result.figures.get(name)) for result in results)]
        for name in dict.fromkeys(name for result in results for name in result.figures)
    ]
    return table_html(["figure", *(result.label for result in results)], rows)


def _shown(value: float | str | None) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() or abs(value) >= 1e5 else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value or "-")


def _configs(results: Sequence[PolicyResult]) -> str:
    """Return the sections of the config that are equal for all, then those of each policy."""
    plain = [plain_config(result.cells[0].cell.config) for result in results]
    shared = [key for key in plain[0] if all(other[key] == plain[0][key] for other in plain)]
    blocks = [_details("shared by all", {key: plain[0][key] for key in shared})]
    for result, config in zip(results, plain, strict=True):
        own = {key: value for key, value in config.items() if key not in shared}
        blocks.append(_details(result.label, own))
    return "".join(blocks)


def _details(title: str, plain: dict[str, object]) -> str:
    text = escape(yaml.safe_dump(plain, sort_keys=False))
    return f"<details><summary>{escape(title)}</summary><pre>{text}</pre></details>"


def _files(folder: Path, results: Sequence[PolicyResult]) -> str:
    rows = []
    for cell in (cell.cell for result in results for cell in result.cells):
        there = cell.folder.relative_to(folder).as_posix()
        names = (SUMMARY, CONFIG, ENV, REQUESTS, INSTANCES, JOURNAL)
        links = " ".join(
            f'<a href="{escape(f"{there}/{name}")}">{name}</a>'
            for name in names
            if (cell.folder / name).is_file()
        )
        rows.append(
            f"<tr><td>{escape(cell.label)}</td><td>{cell.config.seed}</td>"
            f"<td class=text>{links}</td></tr>"
        )
    return f"<table><tr><th>policy</th><th>seed</th><th>files</th></tr>{''.join(rows)}</table>"


def table_html(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the style sheet aligns text left and numbers right."""
    lines = (escape(heading.strip("\n")).replace("\n", "<br>") for heading in headings)
    head = "".join(f"<th>{heading}</th>" for heading in lines)
    body = "".join(
        "<tr>" + "".join(f"<td{_kind(cell)}>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"


def _kind(cell: str) -> str:
    return "" if cell[:1].isdigit() or cell[:1] in "-<" else " class=text"
