"""Every tensor-parallel degree loads from the same files; a rank reads only its part."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.campaigns.checkpoint.samples import random_tensor, same_bytes, saved, small_model
from sllmcore.errors import UsageError
from sllmreal.checkpoint import save_checkpoint
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.loader import ChunkPool, LoadOptions, Shard, SplitRule, load_checkpoint
from sllmreal.loader.shard import rules_of_plan

SMALL = LoadOptions(chunk_bytes=4096)
SPLIT_BY_INPUT = ("o_proj", "down_proj")


@pytest.mark.parametrize("degree", [1, 2, 4, 8])
def test_the_ranks_join_to_the_whole(tmp_path: Path, degree: int) -> None:
    saved(tmp_path / "model")

    ranks = [
        load_checkpoint(tmp_path / "model", shard=Shard(rank, degree), options=SMALL)
        for rank in range(degree)
    ]

    for name, tensor in small_model().items():
        if "layernorm" in name:
            assert all(same_bytes(rank[name], tensor) for rank in ranks)
            continue
        dim = 1 if any(kind in name for kind in SPLIT_BY_INPUT) else 0
        assert ranks[0][name].shape[dim] == tensor.shape[dim] // degree
        assert same_bytes(torch.cat([rank[name] for rank in ranks], dim), tensor)


def test_ranks_of_the_pool_are_the_same(tmp_path: Path) -> None:
    saved(tmp_path / "model")

    with ChunkPool(4 << 20, chunk_bytes=2 << 20) as pool:
        ranks = [
            load_checkpoint(tmp_path / "model", shard=Shard(rank, 2), pool=pool)
            for rank in range(2)
        ]

    name = "model.layers.1.mlp.down_proj.weight"
    assert same_bytes(torch.cat([rank[name] for rank in ranks], 1), small_model()[name])


def test_a_rank_reads_only_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"a.q_proj.weight": random_tensor(torch.int8, (1024, 4096), 1)}
    save_checkpoint(model, tmp_path / "model", WriteOptions(chunk_bytes=65536))
    read_bytes = [0]
    preadv = os.preadv

    def counted(fd: int, buffers: Any, offset: int) -> int:
        got = preadv(fd, buffers, offset)
        read_bytes[0] += got
        return got

    monkeypatch.setattr(os, "preadv", counted)
    load_checkpoint(tmp_path / "model", shard=Shard(3, 8), options=LoadOptions(chunk_bytes=65536))

    assert read_bytes[0] == 1024 * 4096 // 8


def test_a_fused_tensor_is_cut_block_by_block(tmp_path: Path) -> None:
    q, k, v = (random_tensor(torch.float16, (32, 16), seed) for seed in range(3))
    save_checkpoint({"qkv.weight": torch.cat([q, k, v])}, tmp_path / "model")
    rules = (SplitRule(r"qkv\.weight$", 0, num_blocks=3),)

    loaded = load_checkpoint(tmp_path / "model", shard=Shard(1, 4, rules))

    expected = torch.cat([q[8:16], k[8:16], v[8:16]])
    assert same_bytes(loaded["qkv.weight"], expected)


def test_rows_that_do_not_divide_evenly_are_all_assigned(tmp_path: Path) -> None:
    model = {"lm_head.weight": random_tensor(torch.int8, (13, 8), 1)}
    save_checkpoint(model, tmp_path / "model")

    ranks = [load_checkpoint(tmp_path / "model", shard=Shard(r, 4)) for r in range(4)]

    assert [len(rank["lm_head.weight"]) for rank in ranks] == [3, 3, 3, 4]
    whole = torch.cat([rank["lm_head.weight"] for rank in ranks])
    assert same_bytes(whole, model["lm_head.weight"])


def test_a_plan_of_transformers_becomes_rules() -> None:
    plan = {"layers.*.self_attn.q_proj": "colwise", "layers.*.mlp.down_proj": "rowwise"}

    rules = rules_of_plan(plan | {"norm": "sequence_parallel"})

    assert [rule.dim for rule in rules] == [0, 1]


@pytest.mark.parametrize(("rank", "degree"), [(-1, 2), (2, 2), (0, 0)])
def test_a_rank_outside_its_group_is_refused(rank: int, degree: int) -> None:
    with pytest.raises(UsageError, match="rank"):
        Shard(rank, degree)
