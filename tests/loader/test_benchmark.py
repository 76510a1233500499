"""The arithmetic of the benchmark, and a small measured load in a worker."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from experiments.benchmarks.loading import link, medium
from experiments.benchmarks.loading.breakdown import ALL_STEPS, by_tensor, gains, threads
from experiments.benchmarks.loading.campaign import drop_cached, measured_row
from experiments.benchmarks.loading.crew import Crew, started_worker
from experiments.benchmarks.loading.models import (
    DECODERS,
    PreparedModel,
    decoder_shapes,
    lora_shapes,
)
from experiments.benchmarks.loading.overlap import Overlap
from experiments.benchmarks.loading.row import LoadingMeasure
from experiments.campaigns.checkpoint.samples import small_model
from sllmreal.checkpoint import convert


def prepared(tmp_path: Path) -> PreparedModel:
    hub = tmp_path / "small" / "hub"
    hub.mkdir(parents=True)
    file = hub / "model.safetensors"
    save_file(small_model(), file)
    convert(hub, tmp_path / "small" / "native")
    return PreparedModel(
        name="small",
        native=tmp_path / "small" / "native",
        safetensors=file,
        pickled=hub / "none",
        directory=hub,
        size_bytes=file.stat().st_size,
    )


def test_gains_multiply_to_the_product() -> None:
    seconds = dict(zip(ALL_STEPS, (12.0, 6.0, 4.0, 2.0, 1.5, 1.0), strict=True))

    each = gains(seconds)

    assert each["step 2 bulk"] == 2.0
    assert each["product"] == 12.0


def test_overlap_is_the_slower_stage_over_both() -> None:
    assert Overlap(2.0, 1.0, 2.5).ratio == 0.8


def test_shapes_have_the_published_sizes() -> None:
    def billions(shapes: dict[str, tuple[int, ...]]) -> float:
        return sum(one[0] * (one[1] if len(one) == 2 else 1) for one in shapes.values()) / 1e9

    assert billions(decoder_shapes(DECODERS["tinyllama-1.1b"])) == pytest.approx(1.100, abs=0.001)
    assert billions(decoder_shapes(DECODERS["llama-3.2-1b"])) == pytest.approx(1.236, abs=0.001)
    assert billions(lora_shapes()) == pytest.approx(0.414, abs=0.001)


def test_a_worker_measures_a_load_and_what_it_found_cached(tmp_path: Path) -> None:
    model = prepared(tmp_path)
    drop_cached(model)

    with started_worker("ours pool", model, "cpu") as worker:
        hot = worker.load(model, cold=False)
        cold = worker.load(model, cold=True)

    assert 0 < cold["seconds"] < 60
    assert cold["minor_faults"] > 0
    assert hot["cached_share"] == 0.0  # its pool was empty


def test_the_steps_of_the_breakdown_verify_what_they_read(tmp_path: Path) -> None:
    model = prepared(tmp_path)
    (part,) = (model.native).glob("partition-*.bin")

    for step in (by_tensor, threads):
        (loaded,) = step(model)
        assert loaded.numpy().tobytes() == part.read_bytes()


def test_a_cold_load_finds_no_cached_byte_and_a_hot_load_all(tmp_path: Path) -> None:
    """Seeded bug: the page cache is not set before a hot load."""
    model = prepared(tmp_path)
    measure = LoadingMeasure(model.name, model.size_bytes, "cold", 0)
    with Crew(["safetensors", "ours pool"], model, "cpu") as crew:
        for loader in crew.loaders:
            (cold,) = measured_row(
                crew=crew, loader=loader, model=model, measure=measure, device="cpu"
            )
            drop_cached(model)
            (hot,) = measured_row(
                crew=crew,
                loader=loader,
                model=model,
                measure=replace(measure, cache="hot"),
                device="cpu",
            )
            assert cold.valid, loader
            assert hot.valid, loader
            assert (cold.cached_share, hot.cached_share) == (0.0, 1.0)


def test_a_loader_whose_process_dies_twice_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = prepared(tmp_path)  # without a PyTorch file: torch.load fails and its process ends

    with Crew(["torch.load"], model, "cpu") as crew:
        deaths = [crew.load("torch.load", cold=False) for _ in range(2)]
        left = crew.loaders

    assert deaths == [None, None]
    assert left == []
    printed = capsys.readouterr().err
    assert printed.count("started again") == 1
    assert printed.count("left out") == 1


def test_a_device_of_memory_is_removed_at_the_end() -> None:
    try:
        with medium.ram_device(64 << 20) as directory:
            (directory / "file").write_bytes(b"x" * 4096)
            assert str(directory) in Path("/proc/mounts").read_text()
            fd = os.open(directory / "file", os.O_RDONLY | os.O_DIRECT)
            os.close(fd)
    except medium.NoMediumError as error:
        pytest.skip(str(error))

    assert not directory.exists()
    assert str(directory) not in Path("/proc/mounts").read_text()


def test_a_device_of_memory_is_removed_after_an_error() -> None:
    if (reason := medium.why_not()) is not None:
        pytest.skip(reason)
    directories: list[Path] = []

    def fail() -> None:
        with medium.ram_device(64 << 20) as directory:
            directories.append(directory)
            raise KeyError("inside")

    with pytest.raises((KeyError, medium.NoMediumError)):
        fail()

    assert not any(directory.exists() for directory in directories)


def test_an_emulated_link_has_its_rate() -> None:
    """Expect 1.5 s for 15 MB over 10 MB/s, less the burst of the token bucket."""
    if (reason := link.why_not()) is not None:
        pytest.skip(reason)
    serve = (
        "import socket, sys\n"
        "with socket.create_server((sys.argv[1], 9)) as server:\n"
        "    print(flush=True)\n"
        "    server.accept()[0].sendall(bytes(15_000_000))\n"
    )
    try:
        with link.emulated_link(10e6) as far:
            command = [*far.command, sys.executable, "-c", serve, far.address]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
                assert server.stdout is not None
                server.stdout.readline()
                began_s = time.perf_counter()
                with socket.create_connection((far.address, 9)) as connection:
                    while connection.recv(1 << 20):
                        pass
                seconds = time.perf_counter() - began_s
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no link: {error.stderr.decode()[:200]}")

    assert seconds > 0.9 * (15e6 - link.BURST_BYTES) / 10e6
