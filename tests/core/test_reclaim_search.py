"""Reclaim plans on clusters that have one right answer."""

from sllmcore.build import PolicySettings
from sllmcore.commands import LaunchInstance, StartMigration
from sllmcore.events import InferenceFinished, LoadFinished
from sllmcore.types import Checkpoint, StorageTier
from tests.builders import bench_of, in_dram, on_ssd, spec_of

A, B, WIDE = Checkpoint("A", 16), Checkpoint("B", 16), Checkpoint("W", 32, 2)


def test_two_victims_do_not_share_the_gpu_of_an_idle_destination() -> None:
    # A and B run on s0, and W needs both GPUs. s1 has an idle instance of A and a free GPU. A can
    # migrate to that instance; B can be launched on the free GPU, but not on the instance's.
    bench = bench_of(
        PolicySettings(),
        [A, B, WIDE],
        [
            (spec_of("s0", 2), (in_dram("A", 16), in_dram("B", 16), in_dram("W", 32))),
            (spec_of("s1", 2), (on_ssd("A", 16), on_ssd("B", 16))),
        ],
    )
    for number, model in enumerate("ABA", start=1):
        bench.arrive(number, model, 0.0)
    for instance_id in ("i1", "i2", "i3"):
        bench.handle(
            LoadFinished(
                instance_id=instance_id,
                source=StorageTier.DRAM,
                num_bytes=16,
                transfer_s=1.0,
                startup_s=0.0,
            ),
            2.0,
        )
    bench.handle(InferenceFinished("r3", "i3", 15, 2.5), 3.0)

    commands = bench.arrive(4, "W", 3.0)

    resume, load = commands
    assert isinstance(resume, StartMigration) and isinstance(load, LaunchInstance)
    assert (resume.request_id, resume.destination_id) == ("r1", "i3")
    assert (load.model, load.server_id, load.gpu_indices) == ("B", "s1", (1,))
