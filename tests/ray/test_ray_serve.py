"""The parts of the Ray Serve baseline; `-m slow` replays a workload against it."""

import asyncio
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments.ray_serve.checkpoint_cache import CheckpointCache
from experiments.ray_serve.node import Node
from experiments.ray_serve.paced_link import PacedLink
from experiments.real.sending import Sending
from sllmcore.types import DRAM, REMOTE, SSD, Request, ServerSpec, StorageTier
from sllmcore.workload import WorkloadRequest
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.engine.timed import TimedOptions, timed_engine
from sllmsim.catalog import gpu_named
from sllmsim.setup import LoaderProfile, ServerHardware

HARDWARE = ServerHardware(gpu_named("a40"), 2, 250, 1000, 2e4, 2e4, 1e4, 1e5)
BLIND = LoaderProfile("pytorch", pipelined=False)


def elapsed_s(link: PacedLink, sizes: list[int], limit_bytes_per_s: float = 1e9) -> list[float]:
    """Return the durations of transfers that began together."""
    began_at_s, took_s = time.monotonic(), [0.0] * len(sizes)

    def move(number: int) -> None:
        link.move(sizes[number], limit_bytes_per_s)
        took_s[number] = time.monotonic() - began_at_s

    threads = [threading.Thread(target=move, args=(number,)) for number in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took_s


def test_transfers_share_a_link_and_none_is_faster_than_its_limit(tmp_path: Path) -> None:
    """Seeded bug: a chunk that is booked from now on, before earlier ones."""
    link = PacedLink(tmp_path / "link", 1e4)

    first, second = elapsed_s(link, [1000, 1000])
    [limited] = elapsed_s(link, [1000], limit_bytes_per_s=4e3)

    assert max(first, second) >= 0.2
    assert min(first, second) >= 0.15, "turns of a twentieth of a second"
    assert limited >= 0.25


def test_what_was_not_used_for_longest_leaves_first(tmp_path: Path) -> None:
    """Seeded bug: `touch` that does not move a model behind the others."""
    cache = CheckpointCache(tmp_path / "cache", 250)
    cache.put("a", 100)
    cache.put("b", 100)
    assert cache.touch("a")

    cache.put("c", 100)
    cache.put("d", 1000)

    assert [cache.touch(model) for model in "abcd"] == [True, False, True, False]


@pytest.mark.parametrize(
    ("keeps", "sources"),
    [((), [REMOTE] * 5), ((SSD,), [REMOTE, REMOTE, SSD, SSD, SSD]), ((DRAM, SSD), [])],
    ids=["nothing", "the disk", "the disk and its page cache"],
)
def test_a_node_loads_from_what_it_keeps(
    tmp_path: Path, keeps: tuple[StorageTier, ...], sources: list[StorageTier]
) -> None:
    node = Node("s0", HARDWARE, BLIND, keeps, tmp_path)

    found = [node.load(model, 100, 1) for model in ("a", "b", "a", "b", "a")]

    assert found == (sources or [REMOTE, REMOTE, DRAM, DRAM, DRAM])


async def _generated(numbers: list[int]) -> list[list[int]]:
    from experiments.ray_serve.engine_thread import EngineThread

    engine = EngineThread(timed_engine(TimedOptions("m", 4096, 2)))

    async def one(number: int) -> list[int]:
        spec = SequenceSpec(f"r{number}", (number, 1), 20)
        return [token async for token in engine.generate(spec)]

    return list(await asyncio.gather(*map(one, numbers)))


def test_an_engine_in_a_thread_generates_what_it_would_without(tmp_path: Path) -> None:
    engine = timed_engine(TimedOptions("m", 4096, 2))
    for number in (0, 1):
        engine.start(SequenceSpec(f"r{number}", (number, 1), 20))
    while engine.has_work:
        engine.step()

    found = asyncio.run(_generated([0, 1]))

    assert found == [list(engine.output("r0")), list(engine.output("r1"))]


def test_what_was_done_becomes_rows_as_a_journal_does(tmp_path: Path) -> None:
    record = pytest.importorskip("experiments.ray_serve.run_record")
    replica = pytest.importorskip("experiments.ray_serve.replica")
    jobs = [
        WorkloadRequest(Request(f"r{number}", "m", at_s, 4), 10)
        for number, at_s in enumerate((0.0, 1.0))
    ]
    first = Sending(jobs[0], 0.01, 3.5, 4.0, 10)
    second = Sending(jobs[1], 1.01, ended_at_s=2.0, problem=record.TIMED_OUT)
    events = [
        replica.ReplicaEvent("made", 101.0, "i0", "m", "s0", (1,)),
        replica.ReplicaEvent("ready", 103.0, "i0", "m", "s0", (1,), REMOTE, 1.5),
        replica.ReplicaEvent("ended", 105.0, "i0", "m", "s0", (1,)),
    ]
    run = record.RayServeRun(
        (ServerSpec("s0", 2, 1, 0, 0, 1.0, 1.0, 1.0),),
        (ModelDeployment("m", "/m", 1000, 100, 0.0, "timed"),),
        events,
        (first, second),
        {"r0": record.RequestStart("i0", 3.25)},
        start_s=100.0,
        end_s=6.0,
    )

    summary = run.write_tables(tmp_path)

    assert (summary.requests, summary.completed, summary.timed_out) == (2, 1, 1)
    assert (summary.gpu_loading_s, summary.gpu_busy_s, summary.gpu_idle_s) == (2.0, 0.75, 9.25)
    [row, late] = pq.read_table(tmp_path / "requests.parquet").to_pylist()
    assert (row["started_at_s"], row["ended_at_s"], row["source"]) == (3.25, 4.0, "REMOTE")
    assert (row["instance_id"], row["output_tokens"]) == ("i0", 10)
    assert (late["outcome"], late["startup_latency_s"]) == ("timed_out", pytest.approx(0.99))
    [instance] = pq.read_table(tmp_path / "instances.parquet").to_pylist()
    assert (instance["ready_at_s"], instance["end"], instance["transfer_s"]) == (3, "unloaded", 1.5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The `metrics_interval_s` field:DeprecationWarning")
def test_a_workload_is_served_in_full_and_its_second_cold_starts_come_from_the_cache(
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray.serve")
    from experiments.composing import composed_run
    from experiments.real.execute import run_into

    workload = ("workload=gamma", "workload.target_rps=0.2", "workload.max_requests=8")
    real = ("driver=real", "policy=ray_serve_cache")
    config = composed_run([*real, "cluster=small", "models=opt_eight", *workload])

    summary = run_into(tmp_path / "run", config)

    assert summary["completed"] == 8
    assert sum(summary["loads"].values()) >= 2
    rows = pq.read_table(tmp_path / "run" / "requests.parquet").to_pylist()
    instances = pq.read_table(tmp_path / "run" / "instances.parquet").to_pylist()
    seen: set[tuple[str, str]] = set()
    for one in (one for one in instances if one["source"]):
        assert (one["source"] == "REMOTE") == ((one["model"], one["server_id"]) not in seen)
        seen.add((one["model"], one["server_id"]))
    assert all(row["startup_latency_s"] > 10 for row in rows if row["source"] == "REMOTE")
