"""`sllm`: run a cluster on this machine, and deploy models to it.

Every command takes --home, the cluster's directory, and --json where it prints anything.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from sllmcore.errors import SllmError, UsageError
from sllmreal import logs
from sllmreal.processes.extras import missing_extra

DISTRIBUTION = "serverless-llm-toolkit"
DEFAULT_HOME = Path("~/.sllm")
DEFAULT_PORT = 8343  # ServerlessLLM's
Run = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Return 0 if done, 1 if a machine failed, 2 if an argument is wrong."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(given)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"sllm: {missing_extra(error)}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except SllmError as error:
        sys.stderr.write(f"sllm: {error}\n")
        return 2 if isinstance(error, UsageError) else 1


def _run(given: list[str]) -> int:
    if given[:1] == ["--version"]:
        sys.stdout.write(f"sllm {metadata.version(DISTRIBUTION)}\n")
        return 0
    if given[:1] == ["checkpoint"]:
        from sllmreal.checkpoint.cli import main as checkpoint

        return checkpoint(given[1:])
    arguments = _parser(given).parse_args(given)
    run: Run = arguments.run
    return run(arguments)


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser.

    Only the given command gets its options, because some options list what is installed, which
    takes time.
    """
    parser = argparse.ArgumentParser(prog="sllm", description=__doc__)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, add_options) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name in given:
            add_options(command)
    return parser


def _common(parser: argparse.ArgumentParser, run: Run) -> None:
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, help="the cluster's directory")
    parser.set_defaults(run=run)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    from sllmreal.processes.policy_options import add_policy
    from sllmreal.processes.server_options import add_sizes
    from sllmreal.store.registry import store_help

    def run(arguments: argparse.Namespace) -> int:
        from sllmreal.cli.serve import serve_command

        return serve_command(arguments)

    _common(parser, run)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to bind (default %(default)s); any but loopback needs --keys",
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port to bind (default %(default)s)"
    )
    parser.add_argument(
        "--keys", type=Path, help="file of API keys; create it with python -m sllmreal.gateway.keys"
    )
    add_policy(parser)
    parser.add_argument(
        "--workers", type=int, default=1, help="worker processes on this machine (default 1)"
    )
    add_sizes(parser)
    parser.add_argument(
        "--placement",
        choices=("processes", "ray"),
        default="processes",
        help="where workers run (default: on this machine)",
    )
    parser.add_argument(
        "--ray-address",
        default="auto",
        help="address of the Ray head node; auto (the default): find a local one",
    )
    parser.add_argument(
        "--listen",
        metavar="tcp:HOST:PORT",
        help="address on which the leader accepts workers of other machines",
    )
    parser.add_argument(
        "--store", default="sqlite", help=f"{store_help()} (default %(default)s, in --home)"
    )
    parser.add_argument(
        "--engine-silence-s",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds without a token after which a request is restarted once, then fails "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--demo", action="store_true", help="generate a small random model and deploy it"
    )
    logs.add_log_options(parser, default="info")


def _add_deploy(parser: argparse.ArgumentParser) -> None:
    from sllmreal.engine.kind import DEFAULT_ENGINE
    from sllmreal.engine.registry import ENGINES

    def run(arguments: argparse.Namespace) -> int:
        from sllmreal.cli.deploy import deploy_command

        return deploy_command(arguments)

    _common(parser, run)
    parser.add_argument(
        "source", help="directory of a model, as on the Hugging Face hub or in our format"
    )
    parser.add_argument("--name", help="model name in requests (default: the directory's name)")
    parser.add_argument(
        "--engine",
        default=DEFAULT_ENGINE,
        metavar="NAME",
        help=f"{', '.join(ENGINES.names())}, or MODULE:NAME (default {DEFAULT_ENGINE})",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="settings of the engine, such as prefill_chunk_tokens=512",
    )
    parser.add_argument(
        "--slots", type=int, default=4, help="concurrent requests per instance (default 4)"
    )
    parser.add_argument("--gpus", type=int, default=1, help="GPUs per instance (default 1)")
    parser.add_argument("--context", type=int, help="context in tokens (default: the model's own)")
    parser.add_argument(
        "--tenant",
        action="append",
        help="tenant that may use the model; may be repeated (default: all tenants)",
    )
    parser.add_argument(
        "--convert", type=Path, help="convert the model to our format there, and serve that"
    )
    parser.add_argument("--no-tokenizer", action="store_true", help="serve token ids only")
    parser.add_argument("--json", action="store_true", help="print the deployment as JSON")


def _add_delete(parser: argparse.ArgumentParser) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from sllmreal.cli.deploy import delete_command

        return delete_command(arguments)

    _common(parser, run)
    parser.add_argument("name", help="model name")


def _add_status(parser: argparse.ArgumentParser) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from sllmreal.cli.status import status_command

        return status_command(arguments)

    _common(parser, run)
    parser.add_argument("--json", action="store_true", help="print the status as JSON")
    parser.add_argument("--watch", action="store_true", help="show a live table")


def _add_models(parser: argparse.ArgumentParser) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from sllmreal.cli.status import models_command

        return models_command(arguments)

    _common(parser, run)
    parser.add_argument("--json", action="store_true", help="print the models as JSON")


def _add_store(parser: argparse.ArgumentParser) -> None:
    from sllmreal.cli.store import add_store

    add_store(parser)


def _no_options(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `main` hands the rest of the command line on."""


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "serve": ("run a cluster and its gateway on this machine", _add_serve),
    "deploy": ("deploy a model", _add_deploy),
    "delete": ("delete a deployed model", _add_delete),
    "status": ("show servers, instances and requests", _add_status),
    "models": ("list deployed models", _add_models),
    "checkpoint": ("convert, verify, inspect and export checkpoints", _no_options),
    "store": ("keep checkpoints in memory for other processes", _add_store),
}
