"""`sllm`: run a cluster on this machine, and tell it what to serve.

Every command takes --home, the cluster's directory, and --json where it prints anything.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from sllmcore.build import POLICIES
from sllmcore.errors import SllmError, UsageError
from sllmreal import logs
from sllmreal.cli.store import add_store
from sllmreal.leader.policy_support import unsupported_reason
from sllmreal.processes.extras import missing_extra
from sllmreal.processes.server_options import add_sizes

DISTRIBUTION = "serverless-llm-toolkit"
DEFAULT_HOME = Path("~/.sllm")
DEFAULT_PORT = 8343  # ServerlessLLM's
Run = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 when done, 1 when a machine is at fault, 2 when the arguments are."""
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
    arguments = _parser().parse_args(given)
    run: Run = arguments.run
    return run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sllm", description=__doc__)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="run a cluster and its gateway here"))
    _add_deploy(commands.add_parser("deploy", help="serve a model from now on"))
    _add_delete(commands.add_parser("delete", help="take no more requests for a model"))
    _add_status(commands.add_parser("status", help="servers, instances, requests"))
    _add_models(commands.add_parser("models", help="what is deployed"))
    commands.add_parser("checkpoint", help="convert, verify, inspect, export checkpoints")
    add_store(commands.add_parser("store", help="keep checkpoints in memory for other processes"))
    return parser


def _common(parser: argparse.ArgumentParser, run: Run) -> None:
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, help="the cluster's directory")
    parser.set_defaults(run=run)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from sllmreal.cli.serve import serve_command

        return serve_command(arguments)

    _common(parser, run)
    parser.add_argument("--host", default="127.0.0.1", help="beyond loopback, keys are a must")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--keys", type=Path, help="file of keys: python -m sllmreal.gateway.keys")
    policies = ", ".join(name for name in POLICIES if unsupported_reason(name) is None)
    parser.add_argument(
        "--policy", default="serverlessllm", metavar="NAME", help=f"one of {policies}"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine")
    add_sizes(parser)
    parser.add_argument(
        "--placement", choices=("processes", "ray"), default="processes", help="of workers"
    )
    parser.add_argument("--ray-address", default="auto", help="of Ray's head; auto: found here")
    parser.add_argument("--listen", metavar="tcp:HOST:PORT", help="the leader, for other machines")
    parser.add_argument("--store", default="sqlite", help="sqlite, or etcd:HOST:PORT,HOST:PORT")
    parser.add_argument(
        "--engine-silence-s",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds without a token after which a request is restarted once, then fails",
    )
    parser.add_argument(
        "--demo", action="store_true", help="deploy a small model generated on the spot"
    )
    logs.add_log_options(parser, default="info")


def _add_deploy(parser: argparse.ArgumentParser) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from sllmreal.cli.deploy import deploy_command

        return deploy_command(arguments)

    _common(parser, run)
    parser.add_argument("source", help="directory as on the Hugging Face hub, or of our format")
    parser.add_argument("--name", help="in requests; default: the directory's name")
    parser.add_argument("--slots", type=int, default=4, help="requests of one instance at once")
    parser.add_argument("--gpus", type=int, default=1, help="that one instance takes")
    parser.add_argument("--context", type=int, help="tokens; default: the model's own")
    parser.add_argument("--tenant", action="append", help="may use it; default: everybody")
    parser.add_argument("--convert", type=Path, help="convert to our format there, and serve that")
    parser.add_argument("--no-tokenizer", action="store_true", help="serve token ids only")
    parser.add_argument("--json", action="store_true")


def _add_delete(parser: argparse.ArgumentParser) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from sllmreal.cli.deploy import delete_command

        return delete_command(arguments)

    _common(parser, run)
    parser.add_argument("name")


def _add_status(parser: argparse.ArgumentParser) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from sllmreal.cli.status import status_command

        return status_command(arguments)

    _common(parser, run)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--watch", action="store_true", help="a live table")


def _add_models(parser: argparse.ArgumentParser) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from sllmreal.cli.status import models_command

        return models_command(arguments)

    _common(parser, run)
    parser.add_argument("--json", action="store_true")
