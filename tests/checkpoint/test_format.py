"""The written format: golden bytes, rules of layout, one encoding per content."""

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.campaigns.checkpoint.fuzz import fuzz
from experiments.campaigns.checkpoint.samples import every_kind, saved
from sllmreal.checkpoint import BadCheckpointError, read_layout, save_checkpoint
from sllmreal.checkpoint.arrange import SourceTensor, arrange
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.checkpoint.execution_order import execution_order
from sllmreal.checkpoint.layout import align_up, contiguous_stride
from sllmreal.loader import load_checkpoint

GOLDEN_BODY = (
    b'{"chunk_bytes":4194304,"partitions":[{"file":"partition-00000.bin","size_bytes":'
    b'4096,"sha256":"551797aa92b2245aae88207a5e0a0d071690731d59f7ecf00a89335aa3f8cb44"'
    b',"chunk_hashes":"u+h2MvK9AtpegIVStVprLg=="}],"tensors":[{"name":"a","partition":'
    b'0,"offset":0,"bytes":16,"dtype":"int64","shape":[2],"stride":[1]},{"name":"b","p'
    b'artition":0,"offset":64,"bytes":24,"dtype":"float32","shape":[2,3],"stride":[3,1'
    b']},{"name":"c","partition":0,"offset":64,"bytes":24,"dtype":"float32","shape":[3'
    b',2],"stride":[1,3]}],"metadata":{},"assets":[]}'
)


def test_a_checkpoint_has_the_golden_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6, dtype=torch.float32).reshape(2, 3), "a": torch.tensor([1, 2])}
    tensors["c"] = tensors["b"].t()

    save_checkpoint(tensors, tmp_path / "golden", WriteOptions(order=["a", "b", "c"]))

    index = (tmp_path / "golden" / "index.sllm").read_bytes()
    assert index[64:] == GOLDEN_BODY
    assert index[:8] == b"SLLMCKPT"
    assert index[32:64] == hashlib.sha256(GOLDEN_BODY).digest()
    data = (tmp_path / "golden" / "partition-00000.bin").read_bytes()
    assert data[:16] == (1).to_bytes(8, "little") + (2).to_bytes(8, "little")
    assert data[64:88] == tensors["b"].numpy().tobytes()
    assert data[88:] == bytes(4096 - 88)


def test_the_same_tensors_give_the_same_identity(tmp_path: Path) -> None:
    one = saved(tmp_path / "one")
    other = saved(tmp_path / "other")

    assert one.identity == other.identity
    assert one.identity == read_layout(tmp_path / "other").identity


def test_every_tensor_begins_on_a_cache_line_and_every_partition_is_whole_blocks(
    tmp_path: Path,
) -> None:
    layout = save_checkpoint(every_kind(), tmp_path / "all", WriteOptions(num_partitions=3))

    assert all(tensor.offset_bytes % 64 == 0 for tensor in layout.tensors)
    assert all(part.size_bytes % 4096 == 0 for part in layout.partitions)


def test_tied_tensors_are_written_once(tmp_path: Path) -> None:
    weight = torch.randn(1000, 64)

    layout = save_checkpoint({"embed.weight": weight, "lm_head.weight": weight}, tmp_path / "tied")

    assert layout.size_bytes == align_up(weight.nbytes, 4096)


def test_a_view_of_a_large_storage_stores_only_what_it_uses(tmp_path: Path) -> None:
    large = torch.randn(1 << 20)

    layout = save_checkpoint({"part": large[5000:6000]}, tmp_path / "part")

    assert layout.size_bytes <= 8192


def test_partitions_hold_equal_shares(tmp_path: Path) -> None:
    layout = saved(tmp_path / "four", num_partitions=4)

    shares = [part.size_bytes / layout.size_bytes for part in layout.partitions]

    assert len(shares) == 4
    assert min(shares) > 0.15


def test_a_quantised_torch_dtype_is_refused(tmp_path: Path) -> None:
    tensor = torch.tensor([1, 2], dtype=torch.int32).view(torch.uint8)
    with pytest.warns(UserWarning, match="deprecated"):
        quantised = torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8)

    with pytest.raises(BadCheckpointError, match="dense"):
        save_checkpoint({"q": quantised}, tmp_path / "q")


def test_tensors_on_the_meta_device_and_sparse_ones_are_refused(tmp_path: Path) -> None:
    for tensor in (torch.empty(3, device="meta"), torch.eye(3).to_sparse()):
        with pytest.raises(BadCheckpointError):
            save_checkpoint({"x": tensor}, tmp_path / "x")


def test_the_order_follows_execution() -> None:
    names = [
        "lm_head.weight",
        "model.norm.weight",
        "model.layers.10.mlp.down_proj.weight",
        "model.layers.2.self_attn.o_proj.weight",
        "model.layers.2.self_attn.q_proj.weight",
        "model.layers.2.input_layernorm.weight",
        "model.embed_tokens.weight",
    ]

    assert execution_order(names) == [
        "model.embed_tokens.weight",
        "model.layers.2.input_layernorm.weight",
        "model.layers.2.self_attn.q_proj.weight",
        "model.layers.2.self_attn.o_proj.weight",
        "model.layers.10.mlp.down_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
    ]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=30),
    num_partitions=st.integers(1, 8),
)
def test_any_arrangement_covers_every_byte_once(sizes: list[int], num_partitions: int) -> None:
    tensors = [
        SourceTensor(
            name=f"t{number}",
            storage=number,
            offset_bytes=0,
            dtype="int16",
            shape=(size,),
            stride=contiguous_stride((size,)),
        )
        for number, size in enumerate(sizes)
    ]

    arrangement = arrange(tensors, Path("x"), 65536, num_partitions)

    for part, pieces in zip(arrangement.layout.partitions, arrangement.pieces, strict=True):
        end = 0
        for piece in pieces:
            assert piece.offset_bytes == align_up(end, 64)
            end = piece.offset_bytes + piece.size_bytes
        assert part.size_bytes == align_up(end, 4096)
    assert sum(piece.size_bytes for part in arrangement.pieces for piece in part) == 2 * sum(sizes)


def test_fifteen_thousand_mutants_crash_no_parser(tmp_path: Path) -> None:
    tally = fuzz(15_000, seed=7, directory=tmp_path)

    assert tally.executions == 15_000
    assert 0 < tally.accepted < 3_000


def test_a_checkpoint_without_bytes_is_a_checkpoint(tmp_path: Path) -> None:
    empty = {"e": torch.empty(0, 3)}
    for name, tensors in (("none", {}), ("empty", empty)):
        layout = save_checkpoint(tensors, tmp_path / name)

        loaded = load_checkpoint(tmp_path / name)
        assert layout.size_bytes == 0
        assert {key: tensor.shape for key, tensor in loaded.items()} == {
            key: tensor.shape for key, tensor in tensors.items()
        }
