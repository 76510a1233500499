"""The command line `python -m traces`: describe, fetch, export, validate."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from sllmcore.errors import SllmError, UsageError
from sllmcore.plugins import PLUGINS, references_in
from traces.catalogue import CATALOGUE, official_file
from traces.describe import shown, summary_table
from traces.errors import TraceError
from traces.export import export_requests
from traces.fetch import fetch
from traces.formats.table import columns_from_text
from traces.ordering import DEFAULT_TOLERANCE_S
from traces.read import ReadOptions, read_trace
from traces.registry import FORMATS
from traces.report import TraceReport
from traces.spec import WorkloadSpec, kinds
from traces.spec_dict import spec_from_dict
from traces.statistics import gathered
from traces.summary import summary
from traces.time_unit import TimeUnit
from traces.validate import NUM_SEEDS, Check, all_checks
from traces.workload import workload_requests

OK, FAILED, USAGE = 0, 1, 2  # FAILED: a download failed, or a statistic is outside its range

_DESCRIPTION = """\
Describe and download public request traces, and turn them into workloads.

Formats: Azure LLM 2023 and 2024, Azure Functions 2019 and 2021, BurstGPT, Mooncake, ServeGen,
Qwen-Bailian, Vidur, splitwise-sim, LLMServingSim, Dynamo, AIBrix; the first line of a file
identifies its format. Any other table with a request per row is read by its columns (--columns).
Files may be CSV, JSON lines, a JSON array or Parquet, plain or under gzip, bzip2, xz or zstd; - is
standard input. Times are in seconds, lengths in tokens, rates in requests per second."""

_EXAMPLES = """\
examples:
  python -m traces fetch --list
  python -m traces fetch azure-llm-2023-conv --to data
  python -m traces describe data/AzureLLMInferenceTrace_conv.csv --out pictures
  python -m traces describe d01.csv d02.csv --json
  python -m traces export hour.jsonl --set kind=azure_like pattern=conv target_rps=2 \\
      duration_s=3600 lengths=azure_conv --models 32
  python -m traces export two_rps.jsonl --set kind=azure_llm target_rps=2 \\
      path=data/AzureLLMInferenceTrace_code.csv --models 8
  python -m traces validate

exit codes:
  0 done
  1 a download failed, or a generated statistic is outside its allowed range (validate)
  2 wrong usage, or a file that cannot be read"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except UsageError as error:
        print(f"traces: {error}", file=sys.stderr)  # noqa: T201
        return USAGE
    except SllmError as error:
        print(f"traces: {error}", file=sys.stderr)  # noqa: T201
        return FAILED


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "traces", description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=plain
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    describe = commands.add_parser(
        "describe",
        help="print rates, burstiness, popularity and lengths of a trace; draw them with --out",
    )
    describe.add_argument(
        "paths", nargs="+", metavar="PATH", help="file of a trace, or its parts in order"
    )
    describe.add_argument(
        "--format",
        metavar="NAME",
        help=f"{', '.join(FORMATS.names())}, or MODULE:NAME (default: as the first line shows)",
    )
    describe.add_argument("--out", type=Path, metavar="DIR", help="also draw a PNG and a PDF there")
    describe.add_argument(
        "--keep-failed", action="store_true", help="keep BurstGPT's failed requests"
    )
    describe.add_argument(
        "--tolerance-s",
        type=float,
        default=DEFAULT_TOLERANCE_S,
        metavar="S",
        help="seconds by which a row may be earlier than rows before it (default %(default)s)",
    )
    describe.add_argument(
        "--time-unit",
        choices=get_args(TimeUnit),
        help="unit of numeric times; default: that of the format, or of stamps since 1970",
    )
    describe.add_argument(
        "--columns",
        metavar="USE=NAME,...",
        help="columns of a table in no known format: time=NAME,input=NAME,output=NAME,model=NAME",
    )
    describe.add_argument("--json", action="store_true", help="print JSON, not a table")
    describe.set_defaults(run=_describe)
    _add_fetch(commands)
    _add_export(commands)
    validate = commands.add_parser(
        "validate", help="compare generated azure_like workloads with the published statistics"
    )
    validate.add_argument(
        "--seeds", type=int, default=NUM_SEEDS, help="seeds per statistic, default %(default)s"
    )
    validate.add_argument("--json", action="store_true", help="print JSON, not a table")
    validate.set_defaults(run=_validate)
    return parser


def _add_fetch(commands: Any) -> None:
    command = commands.add_parser("fetch", help="download an official trace file; resumes")
    command.add_argument("name", nargs="?", help="a name from --list")
    command.add_argument(
        "--list", action="store_true", help="list the files that can be downloaded"
    )
    command.add_argument(
        "--to", type=Path, default=Path(), metavar="DIR", help="folder, default: the current one"
    )
    command.add_argument("--json", action="store_true", help="with --list: print JSON")
    command.set_defaults(run=_fetch)


def _add_export(commands: Any) -> None:
    command = commands.add_parser(
        "export",
        help="write a workload as Mooncake-style JSON lines",
        description="The fields of --set are those of traces.spec.WorkloadSpec: "
        f"kind ({', '.join(kinds())}), path, target_rps, duration_s, max_requests and "
        "others. Nested fields are written popularity.kind=uniform, lists a,b,c.",
    )
    command.add_argument("out", type=Path, help="file to write: a JSON object per line")
    command.add_argument("--set", nargs="+", required=True, metavar="FIELD=VALUE", dest="fields")
    command.add_argument("--models", default="1", help="number of models, or their names as a,b,c")
    command.add_argument("--seed", type=int, default=0, help="default %(default)s")
    command.set_defaults(run=_export)


def _describe(options: argparse.Namespace) -> int:
    console = Console()
    if options.format is not None:
        PLUGINS.allow([options.format])
        FORMATS[options.format]  # refuses an unknown name before anything is read
    reading = ReadOptions(
        options.format,
        "keep" if options.keep_failed else "drop",
        options.tolerance_s,
        time_unit=options.time_unit,
        columns=None if options.columns is None else columns_from_text(options.columns),
    )
    report = TraceReport()
    with Console(stderr=True).status("reading"):
        found = gathered(read_trace(options.paths, reading, None, report))
    numbers = summary(found)
    _print_report(report)
    title = Path(options.paths[0]).name
    if options.json:
        print(json.dumps(asdict(numbers), indent=2))  # noqa: T201
    else:
        console.print(summary_table(title, numbers))
    if options.out is not None:
        from traces.pictures import draw  # matplotlib takes a second to import

        stem = title.removesuffix(".gz").rsplit(".", 1)[0]
        for path in draw(title, found, options.out, stem):
            print(f"wrote {path}", file=sys.stderr)  # noqa: T201
    return OK


def _print_report(report: TraceReport) -> None:
    for line in report.lines():
        print(line, file=sys.stderr)  # noqa: T201


def _fetch(options: argparse.Namespace) -> int:
    if options.list:
        _print_catalogue(options.json)
        return OK
    if options.name is None:
        raise TraceError("fetch needs the name of a file; fetch --list shows the names")
    file = official_file(options.name)
    columns = (TextColumn(file.name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(file.name, total=file.size_bytes)
        path = fetch(
            file,
            options.to,
            lambda done, total: bar.update(task, completed=done, total=total or file.size_bytes),
        )
    print(path)  # noqa: T201
    return OK


def _print_catalogue(as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(file) for file in CATALOGUE], indent=2))  # noqa: T201
        return
    table = Table()
    table.add_column("name", no_wrap=True)
    for column in ("MB", "licence", "content", "digest"):
        table.add_column(column)
    for file in CATALOGUE:
        size = "" if file.size_bytes is None else f"{file.size_bytes / 1e6:.1f}"
        known = "" if file.sha256 is None else "sha256"
        table.add_row(file.name, size, file.licence, file.note, known)
    Console().print(table)


def _export(options: argparse.Namespace) -> int:
    PLUGINS.allow(references_in(options.fields))
    spec = parsed_spec(options.fields)
    names = options.models.split(",")
    if options.models.isdigit():
        names = [f"model-{index}" for index in range(int(options.models))]
    report = TraceReport()
    with Console(stderr=True).status("writing"):
        requests = workload_requests(spec, names, options.seed, None, report)
        num = export_requests(requests, options.out)
    _print_report(report)
    print(f"wrote {num} requests to {options.out}", file=sys.stderr)  # noqa: T201
    return OK


def parsed_spec(fields: Sequence[str]) -> WorkloadSpec:
    """Return the spec of FIELD=VALUE arguments, such as `kind=azure_like popularity.sigma=2`.

    Raises:
        TraceError: An argument has no `=`, or a field or value is wrong.
    """
    values: dict[str, Any] = {}
    for field in fields:
        name, equals, text = field.partition("=")
        if not equals:
            raise TraceError("expected FIELD=VALUE", None, None, None, field)
        inner = values
        *outer, last = name.split(".")
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = text.split(",") if "," in text else text
    return spec_from_dict(values, from_text=True)


def _validate(options: argparse.Namespace) -> int:
    if options.seeds < 1:
        raise TraceError(f"--seeds must be at least 1, got {options.seeds}")
    with Console(stderr=True).status("generating"):
        checks = all_checks(options.seeds)
    if options.json:
        print(json.dumps([{**asdict(check), "met": check.met} for check in checks], indent=2))  # noqa: T201
    else:
        Console().print(_check_table(checks))
    return OK if all(check.met for check in checks) else FAILED


def _check_table(checks: Sequence[Check]) -> Table:
    table = Table(
        title="azure_like against the published traces",
        caption="dispersion: variance / mean of the requests per window; minute correlation: of "
        "the counts of successive minutes; ours: median over seeds",
    )
    table.add_column("quantity", no_wrap=True)
    for column in ("published", "ours", "off by", "allowed", "met"):
        table.add_column(column, justify="right")
    for check in checks:
        sign = "%" if check.relative else ""
        scale = 100 if check.relative else 1
        table.add_row(
            check.quantity,
            shown(check.published),
            shown(check.ours),
            f"{scale * check.difference:+.3g}{sign}",
            f"{scale * check.allowed:.3g}{sign}",
            "yes" if check.met else "NO",
        )
    return table
