"""Loads to a device: through a ring of a few chunks; on a GPU, equal to the CPU's tensors."""

from pathlib import Path

import pytest
import torch

from experiments.campaigns.checkpoint.samples import (
    assert_same,
    every_kind,
    same_bytes,
    saved,
    small_model,
)
from sllmreal.checkpoint.source import opened_checkpoint
from sllmreal.loader import ChunkPool, LoadOptions, load_checkpoint
from sllmreal.loader.device import DeviceMemory, StagingRing, registered
from sllmreal.loader.fill import Fill
from sllmreal.loader.plan import plan_load
from sllmreal.loader.reading import opened_reader
from sllmreal.loader.transfer import transfer

CPU = torch.device("cpu")


class HostCopier:
    """A copier from host to host in place of a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def copy(self, target: torch.Tensor, host: torch.Tensor) -> None:
        target.copy_(host)


@pytest.mark.parametrize("ring_chunks", [1, 2, 5])
def test_a_model_passes_through_a_ring_smaller_than_itself(
    tmp_path: Path, ring_chunks: int
) -> None:
    saved(tmp_path / "model", num_partitions=2)
    options = LoadOptions(chunk_bytes=65536, num_readers=2, queue_chunks=2)
    aligned = torch.empty((ring_chunks + 1) * 65536, dtype=torch.uint8)
    skip = -aligned.data_ptr() % 4096
    memory = aligned[skip : skip + ring_chunks * 65536]

    with opened_checkpoint(tmp_path / "model") as opened, opened_reader(opened) as reader:
        plan = plan_load(opened.layout, 65536, interleaved=True)
        ring = StagingRing(memory, 65536)
        target = DeviceMemory(
            plan=plan, source=ring, devices=[CPU, CPU], make_copier=HostCopier, num_copiers=2
        )
        transfer(
            fill=Fill(plan),
            reader=reader,
            destination=target,
            landed=lambda position: None,
            options=options,
        )
        loaded = {entry.name: target.tensor(entry) for entry in opened.layout.tensors}

    assert len(plan.reads) > ring_chunks
    assert_same(loaded, small_model())


def test_a_failing_copy_does_not_hang_readers_that_wait_for_the_ring(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    options = LoadOptions(chunk_bytes=4096, num_readers=4, queue_chunks=2)

    class FailingCopier(HostCopier):
        def copy(self, target: torch.Tensor, host: torch.Tensor) -> None:
            raise RuntimeError("device lost")

    memory = torch.empty(4 * 4096, dtype=torch.uint8)
    memory = memory[-memory.data_ptr() % 4096 :][: 2 * 4096]
    with opened_checkpoint(tmp_path / "model") as opened, opened_reader(opened) as reader:
        plan = plan_load(opened.layout, 4096)
        ring = StagingRing(memory, 4096)
        target = DeviceMemory(
            plan=plan, source=ring, devices=[CPU], make_copier=FailingCopier, num_copiers=2
        )

        with pytest.raises(RuntimeError, match="device lost"):
            transfer(
                fill=Fill(plan),
                reader=reader,
                destination=target,
                landed=lambda position: None,
                options=options,
            )


@pytest.mark.gpu
def test_a_gpu_holds_the_same_tensors_by_every_path(tmp_path: Path) -> None:
    tensors = every_kind()
    from sllmreal.checkpoint import save_checkpoint

    save_checkpoint(tensors, tmp_path / "all")
    with ChunkPool(64 << 20, chunk_bytes=16 << 20) as pool, registered(pool):
        loads = [
            load_checkpoint(tmp_path / "all", "cuda"),
            load_checkpoint(tmp_path / "all", "cuda", pool=pool),
            load_checkpoint(tmp_path / "all", "cuda", pool=pool),
        ]

    for loaded in loads:
        assert all(tensor.device.type == "cuda" for tensor in loaded.values())
        for name, tensor in tensors.items():
            assert same_bytes(loaded[name].cpu(), tensor), name
