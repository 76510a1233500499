"""Small models of real architectures: a loaded model computes the same as the original."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PretrainedConfig

from sllmreal.checkpoint import BadCheckpointError, convert
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.loader import ChunkPool, Shard, load_checkpoint
from sllmreal.loader.pretrained import load_pretrained

AutoModelForCausalLM: Any = transformers.AutoModelForCausalLM  # its methods are untyped

COMMON: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "dtype": torch.bfloat16,
}
GATED: dict[str, Any] = {**COMMON, "intermediate_size": 64, "num_key_value_heads": 2}


def config(family: str) -> PretrainedConfig:
    match family:
        case "opt":
            return transformers.OPTConfig(**COMMON, ffn_dim=64, word_embed_proj_dim=32)
        case "llama":
            return transformers.LlamaConfig(**GATED)
        case "falcon":
            return transformers.FalconConfig(**COMMON)
        case "qwen":
            return transformers.Qwen2Config(**GATED, tie_word_embeddings=True)
        case _:
            return transformers.MixtralConfig(**GATED, num_local_experts=4)


@pytest.mark.parametrize("family", ["opt", "llama", "falcon", "qwen", "mixtral"])
def test_a_model_gives_the_same_logits_from_a_checkpoint(tmp_path: Path, family: str) -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config(family)).save_pretrained(tmp_path / "hub")
    convert(tmp_path / "hub", tmp_path / "ours", WriteOptions(2, chunk_bytes=4096))
    tokens = torch.arange(12)[None]

    original = AutoModelForCausalLM.from_pretrained(tmp_path / "hub", dtype="auto").eval()
    with ChunkPool(8 << 20, chunk_bytes=2 << 20) as pool, torch.no_grad():
        expected = original(tokens).logits
        from_ours = load_pretrained(tmp_path / "ours", pool=pool)(tokens).logits
        from_plain = load_pretrained(tmp_path / "hub")(tokens).logits

    assert torch.equal(from_ours, expected)
    assert torch.equal(from_plain, expected)


@pytest.mark.parametrize("degree", [2, 4])
def test_the_ranks_of_a_real_model_join_to_the_whole(tmp_path: Path, degree: int) -> None:
    AutoModelForCausalLM.from_config(config("llama")).save_pretrained(tmp_path / "hub")
    convert(tmp_path / "hub", tmp_path / "ours", WriteOptions(chunk_bytes=4096))
    whole = load_checkpoint(tmp_path / "ours")

    ranks = [load_checkpoint(tmp_path / "ours", shard=Shard(r, degree)) for r in range(degree)]

    for name, tensor in whole.items():
        if tensor.dim() == 2:
            dim = 1 if "o_proj" in name or "down_proj" in name else 0
            assert torch.equal(torch.cat([rank[name] for rank in ranks], dim), tensor)


def test_a_loaded_state_dict_is_ready_to_be_assigned(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(config("llama"))
    model.save_pretrained(tmp_path / "hub")
    tensors = load_checkpoint(tmp_path / "hub")

    model.load_state_dict(tensors, assign=True)

    name = "model.layers.0.mlp.up_proj.weight"
    assert model.get_parameter(name).data_ptr() == tensors[name].data_ptr()


def test_weights_without_a_configuration_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")

    with pytest.raises(BadCheckpointError, match=r"config\.json"):
        load_pretrained(tmp_path / "model.safetensors")
