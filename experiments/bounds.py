"""Compare policies with lower bounds on the mean delay.

    python -m experiments.bounds FOLDER                  the regret of each run of a comparison;
                                                         writes FOLDER/regret.csv and regret.json
    python -m experiments.bounds certify --instances 50  the gap of each policy to the optimum of
                                                         random small instances

The delay of a request is (last token) - (arrival) - (time of the inference alone). The regret of a
run is its mean delay minus the best bound. The bounds hold for the comparison of
`python -m experiments.compare experiment=bounds`, among others.

Exit codes: 0 done, 1 a policy beat a bound, 2 a mistake of the caller, 130 interrupted.
"""

import argparse
import sys
from pathlib import Path

from experiments.command import OK, exit_code
from experiments.reproduction.bounds.certify import Certificate, certificate, gap_table
from experiments.reproduction.bounds.regret import csv_text, plain_regrets, regret_table, regrets_of
from experiments.simulation.execute import json_text
from sllmcore.errors import UsageError


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    if arguments[:1] == ["certify"]:
        options = _certify_options().parse_args(arguments[1:])
        return exit_code(lambda: _certify(options))
    options = _regret_options().parse_args(arguments)
    return exit_code(lambda: _regret(options.folder))


def _certify_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bounds certify",
        description="Solve random small instances to optimality, and print the gap of each policy.",
        epilog="Exit codes: 0 done, 1 a policy beat a bound, 2 wrong usage, 130 interrupted.",
    )
    parser.add_argument("--instances", type=int, default=50, help="number (default 50)")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="seed of the first one (default 0)"
    )
    parser.add_argument(
        "--limit-s",
        type=float,
        default=60.0,
        help="seconds of the solver per instance (default 60)",
    )
    parser.add_argument("--out", type=Path, help="JSON file to write the results to")
    return parser


def _regret_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bounds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="folder of a comparison, or the word certify")
    return parser


def _certify(options: argparse.Namespace) -> int:
    if options.instances < 1:
        raise UsageError(f"--instances must be at least 1, got {options.instances}")
    made = []
    for seed in range(options.first_seed, options.first_seed + options.instances):
        made.append(certificate(seed, options.limit_s))
        print(_line(made[-1]), file=sys.stderr, flush=True)
    print(gap_table(made), end="")
    if options.out is not None:
        options.out.write_text(json_text([one.plain() for one in made]))
    return OK


def _line(made: Certificate) -> str:
    policies = "  ".join(f"{name} {cost_s:.2f}" for name, cost_s in made.policies_s.items())
    kind = "optimum" if made.exact else "bound"
    return (
        f"instance {made.seed}: {made.num_requests} requests, {made.num_servers} servers, "
        f"{made.num_gpus} GPUs: {kind} {made.optimum_s:.2f}  {policies}"
    )


def _regret(folder: Path) -> int:
    regrets = regrets_of(
        folder,
        lambda one: print(f"{one.label}, seed {one.seed}: {one.regret_s:.3g} s", file=sys.stderr),
    )
    (folder / "regret.csv").write_text(csv_text(regrets))
    (folder / "regret.json").write_text(json_text(plain_regrets(regrets)))
    print("mean delay per request, its best lower bound, and the regret: delay - bound\n")
    print(regret_table(regrets), end="")
    return OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
