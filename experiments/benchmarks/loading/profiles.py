"""The simulator's loader profiles from measurements.

    python -m experiments.benchmarks.loading.profiles [loading.json] [--write]

prints the profiles, or writes them as `configs/driver/measured_*.yaml`; profiles from publications
are in `loader_*.yaml`.

efficiency = bytes/s of the loader / bytes/s of the limit in the same round,  median over all rounds
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from experiments.benchmarks.loading.results import MEASURED_AS, RESULTS, MeasuredRate, read_measured
from experiments.benchmarks.loading.row import LoadingRow
from sllmsim.setup import LoaderProfile

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "driver"
_LINK = "10 Gbit/s"  # the only rated link that a loader may not saturate


@dataclass(frozen=True, slots=True)
class MeasuredProfile:
    """A profile, and its measured rates of the loader and of the limit, in bytes/s."""

    profile: LoaderProfile
    cold_bytes_per_s: float
    disk_bytes_per_s: float
    num_loads: int


def profiles(measured: MeasuredRate) -> list[MeasuredProfile]:
    """Return the profiles of the loaders that were measured beside the disk's limit."""
    found = [_profile(name, loader, measured) for name, loader in MEASURED_AS.items()]
    return [one for one in found if one is not None]


def _profile(name: str, loader: str, measured: MeasuredRate) -> MeasuredProfile | None:
    cold = measured.values(_ratio, loader=loader, cache="cold")
    hot = measured.values(_ratio, loader=loader, cache="hot")
    if not cold or not hot:
        return None
    pipelined = name == "serverlessllm"
    profile = LoaderProfile(
        name=f"measured {name}",
        remote_efficiency=_remote_share(measured) if pipelined else 1.0,
        ssd_efficiency=_share(cold),
        dram_efficiency=_share(hot),
        pipelined=pipelined,
    )
    rates = measured.values(_rate, loader=loader, cache="cold")
    limits = measured.values(_rate, loader="fio", cache="cold")
    return MeasuredProfile(profile, median(rates), median(limits), len(cold))


def _remote_share(measured: MeasuredRate) -> float:
    """Return the share of the link's rate: (ours / bare receive) * (bare receive / rate)."""
    ours = measured.values(_ratio, loader="ours remote", cache=_LINK)
    receivable = measured.values(_ratio, loader="bare receive", cache=_LINK)
    return _share([median(ours) * median(receivable)]) if ours and receivable else 1.0


def _share(ratios: list[float]) -> float:
    return round(min(1.0, median(ratios)), 3)


def _ratio(row: LoadingRow) -> float | None:
    return row.ratio_to_limit


def _rate(row: LoadingRow) -> float | None:
    return row.bytes_per_s


def yaml_text(one: MeasuredProfile, measured: MeasuredRate) -> str:
    """Return the YAML file of a driver with this profile."""
    machine, profile = measured.machine, one.profile
    media = ", ".join(sorted({row.medium for row in measured.rows}))
    return f"""\
# Measured: {one.cold_bytes_per_s / 1e9:.2f} GB/s cold, median of {one.num_loads} loads, where fio read {one.disk_bytes_per_s / 1e9:.2f} GB/s.
# {machine["measured_at"]}, {media}, {machine["num_cpus"]} CPUs, Linux {machine["kernel"]}, torch {machine["torch"]}.
# {machine["command"]}; then python -m experiments.benchmarks.loading.profiles --write
defaults:
  - sim
  - _self_
loader:
  name: {profile.name}
  remote_efficiency: {profile.remote_efficiency}
  ssd_efficiency: {profile.ssd_efficiency}
  dram_efficiency: {profile.dram_efficiency}
  pipelined: {str(profile.pipelined).lower()}
"""  # noqa: E501


def file_name(one: MeasuredProfile) -> str:
    """Return the name of a profile's YAML file."""
    return one.profile.name.replace(" ", "_") + ".yaml"


def main(argv: list[str] | None = None) -> int:
    """Print or write the profiles; return 1 if there are no results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--write", action="store_true", help=f"into {CONFIGS}")
    arguments = parser.parse_args(argv)
    measured = read_measured(arguments.results)
    if measured is None:
        sys.stderr.write(f"no {arguments.results}: create it with python -m experiments.loading\n")
        return 1
    for one in profiles(measured):
        text = yaml_text(one, measured)
        if arguments.write:
            (CONFIGS / file_name(one)).write_text(text)
        print(f"{file_name(one)}:\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
