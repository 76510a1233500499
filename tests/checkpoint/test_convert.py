"""Conversion from every common format to ours and back: bytes stay equal, no code is run."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments.campaigns.checkpoint.samples import assert_same, every_kind, saved, small_model
from sllmcore.errors import UsageError
from sllmreal.checkpoint import (
    BadCheckpointError,
    CorruptCheckpointError,
    StorageError,
    convert,
    export_safetensors,
    read_layout,
    save_checkpoint,
    verify,
)
from sllmreal.checkpoint.cli import main
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.checkpoint.dtypes import SAFETENSORS_CODES
from sllmreal.loader import load_checkpoint

SMALL = WriteOptions(chunk_bytes=4096)


def for_safetensors() -> dict[str, torch.Tensor]:
    """Return the odd tensors that safetensors can hold."""
    codes = set(SAFETENSORS_CODES.values())
    return {
        name: tensor.contiguous().clone()
        for name, tensor in every_kind().items()
        if str(tensor.dtype).removeprefix("torch.") in codes
    }


def loadable_by_torch() -> dict[str, torch.Tensor]:
    """Return the tensors that torch can load; it cannot load types of 1 to 7 bits."""
    known = {*SAFETENSORS_CODES.values(), "complex128"}
    return {
        name: tensor
        for name, tensor in every_kind().items()
        if str(tensor.dtype).removeprefix("torch.") in known
    }


def test_converted_safetensors_equal_the_tensors_that_safetensors_loads(tmp_path: Path) -> None:
    save_file(for_safetensors(), tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text("{}")

    layout = convert(tmp_path / "model.safetensors", tmp_path / "out", SMALL)

    assert_same(load_checkpoint(tmp_path / "out"), load_file(tmp_path / "model.safetensors"))
    assert layout.metadata == {"format": "pt"}
    assert [asset.file for asset in layout.assets] == ["config.json"]


def test_shards_are_exported_and_converted_back(tmp_path: Path) -> None:
    model = small_model()
    saved(tmp_path / "one")

    written = export_safetensors(tmp_path / "one", tmp_path / "shards", max_shard_bytes=50_000)
    convert(tmp_path / "shards", tmp_path / "again", SMALL)

    assert len(written) > 3
    assert_same(load_checkpoint(tmp_path / "shards"), model)
    assert_same(load_checkpoint(tmp_path / "again"), model)


def test_safetensors_reads_an_exported_checkpoint(tmp_path: Path) -> None:
    tensors = every_kind()
    codes = set(SAFETENSORS_CODES.values())
    known = {
        name: tensor
        for name, tensor in tensors.items()
        if str(tensor.dtype).removeprefix("torch.") in codes
    }
    save_checkpoint(known, tmp_path / "ours", SMALL)

    (file,) = export_safetensors(tmp_path / "ours", tmp_path / "theirs")

    assert_same(load_file(file), {name: tensor.contiguous() for name, tensor in known.items()})


def test_a_dtype_that_safetensors_lacks_is_not_exported(tmp_path: Path) -> None:
    save_checkpoint({"x": torch.zeros(2, dtype=torch.complex128)}, tmp_path / "ours")

    with pytest.raises(BadCheckpointError, match="complex128"):
        export_safetensors(tmp_path / "ours", tmp_path / "theirs")


def test_a_pytorch_file_keeps_ties_strides_and_types(tmp_path: Path) -> None:
    tensors = loadable_by_torch()
    torch.save(tensors, tmp_path / "pytorch_model.bin")

    layout = convert(tmp_path / "pytorch_model.bin", tmp_path / "out", SMALL)

    loaded = load_checkpoint(tmp_path / "out")
    assert_same(loaded, tensors)
    assert loaded["strided"].stride() == tensors["strided"].stride()
    assert loaded["lm_head.weight"].data_ptr() == loaded["embed_tokens.weight"].data_ptr()
    assert layout.size_bytes < 100_000


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.marker),)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"x": _Bomb(marker)}, tmp_path / "bad.bin")

    with pytest.raises(BadCheckpointError, match="weights-only"):
        convert(tmp_path / "bad.bin", tmp_path / "out")

    assert not marker.exists()
    assert not (tmp_path / "out").exists()


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(pickle.dumps({"x": 1}))

    with pytest.raises(BadCheckpointError):
        convert(tmp_path / "bad.pt", tmp_path / "out")


def test_an_adapter_keeps_its_configuration(tmp_path: Path) -> None:
    adapter = {
        "base.layers.0.q_proj.lora_A.weight": torch.randn(8, 64),
        "base.layers.0.q_proj.lora_B.weight": torch.randn(64, 8),
    }
    (tmp_path / "lora").mkdir()
    save_file(adapter, tmp_path / "lora" / "adapter_model.safetensors")
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps({"r": 8}))

    layout = convert(tmp_path / "lora", tmp_path / "out", SMALL)
    export_safetensors(tmp_path / "out", tmp_path / "back")

    assert [asset.file for asset in layout.assets] == ["adapter_config.json"]
    assert_same(load_checkpoint(tmp_path / "lora"), adapter)
    assert_same(load_file(tmp_path / "back" / "adapter_model.safetensors"), adapter)


def test_an_interrupted_conversion_resumes_without_reading_again(tmp_path: Path) -> None:
    save_file(small_model(8, 128), tmp_path / "model.safetensors")
    options = WriteOptions(chunk_bytes=4096)

    def stop(done_bytes: int, total_bytes: int) -> None:
        if done_bytes > total_bytes // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "model.safetensors", tmp_path / "out", options, stop)
    journal = (tmp_path / ".out.partial" / "journal").stat().st_size
    resumed = convert(tmp_path / "model.safetensors", tmp_path / "out", options)
    whole = convert(tmp_path / "model.safetensors", tmp_path / "whole", options)

    assert journal > 64 + 56 * 64
    assert resumed.identity == whole.identity
    assert not (tmp_path / ".out.partial").exists()


def test_a_resumed_conversion_does_not_trust_spoilt_chunks(tmp_path: Path) -> None:
    save_file(small_model(8, 128), tmp_path / "model.safetensors")
    options = WriteOptions(chunk_bytes=4096)

    def stop(done_bytes: int, total_bytes: int) -> None:
        if done_bytes > total_bytes // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "model.safetensors", tmp_path / "out", options, stop)
    with (tmp_path / ".out.partial" / "partition-00000.bin").open("r+b") as file:
        file.seek(10_000)
        file.write(b"spoilt")
    convert(tmp_path / "model.safetensors", tmp_path / "out", options)

    assert verify(tmp_path / "out").num_chunks > 0
    assert_same(load_checkpoint(tmp_path / "out"), small_model(8, 128))


def test_a_source_that_was_changed_meanwhile_starts_over(tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    save_file(small_model(8, 128), source)
    options = WriteOptions(chunk_bytes=4096)

    def stop(done_bytes: int, total_bytes: int) -> None:
        if done_bytes > total_bytes // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out", options, stop)
    changed = {name: tensor + 1 for name, tensor in small_model(8, 128).items()}
    source.unlink()
    save_file(changed, source)
    convert(source, tmp_path / "out", options)

    assert_same(load_checkpoint(tmp_path / "out"), changed)


def test_an_existing_target_is_replaced_only_with_the_option_and_only_if_a_checkpoint(
    tmp_path: Path,
) -> None:
    saved(tmp_path / "model")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").write_text("x")

    with pytest.raises(UsageError, match="exists"):
        save_checkpoint({"x": torch.zeros(1)}, tmp_path / "model")
    with pytest.raises(UsageError, match="not a checkpoint"):
        save_checkpoint({"x": torch.zeros(1)}, tmp_path / "home", WriteOptions(replace=True))
    save_checkpoint({"x": torch.zeros(1)}, tmp_path / "model", WriteOptions(replace=True))

    assert list(load_checkpoint(tmp_path / "model")) == ["x"]
    assert (tmp_path / "home" / "precious").exists()


def test_verify_names_the_chunk_that_differs(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with (tmp_path / "model" / "partition-00000.bin").open("r+b") as file:
        file.seek(5 * 4096 + 17)
        file.write(b"\x01\x02\x03")

    with pytest.raises(CorruptCheckpointError, match="chunk 5 "):
        verify(tmp_path / "model")


def test_a_changed_asset_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    save_checkpoint(small_model(), tmp_path / "model", SMALL, [tmp_path / "config.json"])
    (tmp_path / "model" / "assets" / "config.json").write_text("[]")

    with pytest.raises(CorruptCheckpointError, match=r"config\.json"):
        verify(tmp_path / "model")


def test_exit_codes_distinguish_bad_arguments_from_bad_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(small_model(), tmp_path / "model.safetensors")
    ours = str(tmp_path / "ours")

    assert main(["convert", str(tmp_path / "model.safetensors"), ours, "--partitions", "2"]) == 0
    assert main(["verify", ours]) == 0
    assert main(["inspect", ours]) == 0
    assert main(["inspect", ours, "--json"]) == 0
    assert main(["export", ours, str(tmp_path / "back")]) == 0
    assert main(["convert", str(tmp_path / "model.safetensors"), ours]) == 2
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    (tmp_path / "ours" / "partition-00001.bin").write_bytes(
        bytes(read_layout(tmp_path / "ours").partitions[1].size_bytes)
    )
    assert main(["verify", ours]) == 1
    assert "differs from its hash" in capsys.readouterr().err


def test_the_package_imports_no_torch_to_read_an_index() -> None:
    code = (
        "import sys; import sllmreal.checkpoint.source, sllmreal.checkpoint.verify; "
        "sys.exit('torch' in sys.modules and 'sllmreal.loader' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(5, "EIO")])
def test_a_failing_disk_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fail(*arguments: object) -> int:
        raise error

    monkeypatch.setattr(os, "pwrite", fail)

    with pytest.raises(StorageError):
        save_checkpoint(small_model(), tmp_path / "model")

    assert not (tmp_path / "model").exists()
