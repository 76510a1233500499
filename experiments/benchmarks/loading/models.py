"""Checkpoints of real shapes with random weights, in all formats that the loaders need.

Sizes are those of the published configurations. A model that is too large for a small machine has
fewer layers of the same shapes; its name gives their number (`llama-2-7b-l9`: nine layers).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from experiments.benchmarks.loading.row import LORA
from sllmreal.checkpoint import convert
from sllmreal.checkpoint.index import INDEX_FILE

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class SampleDecoder:
    """The sizes that determine a decoder's shapes."""

    num_layers: int
    hidden: int
    intermediate: int
    kv_hidden: int
    vocab: int
    tied: bool = False


LLAMA_2_7B = (4096, 11008, 4096, 32000)
DECODERS = {
    "llama-2-7b-l1": SampleDecoder(1, *LLAMA_2_7B),  # 0.9 GB
    "llama-2-7b-l3": SampleDecoder(3, *LLAMA_2_7B),  # 1.7 GB
    "tinyllama-1.1b": SampleDecoder(
        num_layers=22, hidden=2048, intermediate=5632, kv_hidden=256, vocab=32000
    ),  # 2.2 GB
    "llama-3.2-1b": SampleDecoder(
        num_layers=16, hidden=2048, intermediate=8192, kv_hidden=512, vocab=128256, tied=True
    ),  # 2.5 GB
    "llama-2-7b-l9": SampleDecoder(9, *LLAMA_2_7B),  # 4.2 GB
    "llama-2-7b-l18": SampleDecoder(18, *LLAMA_2_7B),  # 7.8 GB
}
MODELS = (*DECODERS, LORA)


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """The paths of a model's formats."""

    name: str
    native: Path
    safetensors: Path
    pickled: Path
    directory: Path  # with config.json, for from_pretrained
    size_bytes: int


def prepare(name: str, directory: Path) -> PreparedModel:
    """Write the model in all formats under `directory`, unless it is there; return its paths."""
    root = directory / name
    hub = root / "hub"
    adapter = name == LORA
    file = hub / ("adapter_model.safetensors" if adapter else "model.safetensors")
    prepared = PreparedModel(
        name=name,
        native=root / "native",
        safetensors=file,
        pickled=root / "model.pt",
        directory=hub,
        size_bytes=0,
    )
    if not (prepared.native / INDEX_FILE).exists():
        hub.mkdir(parents=True, exist_ok=True)
        tensors = _random(lora_shapes() if adapter else decoder_shapes(DECODERS[name]))
        save_file(tensors, file, {"format": "pt"})
        torch.save(tensors, prepared.pickled)
        config = {"r": 32} if adapter else _config(DECODERS[name])
        kind = "adapter_config.json" if adapter else "config.json"
        (hub / kind).write_text(json.dumps(config))
        del tensors
        convert(hub, prepared.native)
    size_bytes = file.stat().st_size
    return PreparedModel(
        name=name,
        native=prepared.native,
        safetensors=file,
        pickled=prepared.pickled,
        directory=hub,
        size_bytes=size_bytes,
    )


def size_in_all_formats(name: str) -> int:
    """Return the bytes on disk of `prepare` and of other loaders' formats, plus a tenth."""
    shapes = lora_shapes() if name == LORA else decoder_shapes(DECODERS[name])
    return int(4.4 * 2 * sum(math.prod(shape) for shape in shapes.values()))


def decoder_shapes(decoder: SampleDecoder) -> Shapes:
    """Return names and shapes as in transformers' Llama."""
    hidden, kv, inner = decoder.hidden, decoder.kv_hidden, decoder.intermediate
    shapes: Shapes = {"model.embed_tokens.weight": (decoder.vocab, hidden)}
    for layer in range(decoder.num_layers):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (hidden,),
            f"{prefix}.self_attn.q_proj.weight": (hidden, hidden),
            f"{prefix}.self_attn.k_proj.weight": (kv, hidden),
            f"{prefix}.self_attn.v_proj.weight": (kv, hidden),
            f"{prefix}.self_attn.o_proj.weight": (hidden, hidden),
            f"{prefix}.post_attention_layernorm.weight": (hidden,),
            f"{prefix}.mlp.gate_proj.weight": (inner, hidden),
            f"{prefix}.mlp.up_proj.weight": (inner, hidden),
            f"{prefix}.mlp.down_proj.weight": (hidden, inner),
        }
    shapes["model.norm.weight"] = (hidden,)
    if not decoder.tied:
        shapes["lm_head.weight"] = (decoder.vocab, hidden)
    return shapes


def lora_shapes() -> Shapes:
    """Return an adapter of rank 32 on every linear layer of Llama-2-70B: 0.83 GB in fp16."""
    linear = {
        "self_attn.q_proj": (8192, 8192),
        "self_attn.k_proj": (8192, 1024),
        "self_attn.v_proj": (8192, 1024),
        "self_attn.o_proj": (8192, 8192),
        "mlp.gate_proj": (8192, 28672),
        "mlp.up_proj": (8192, 28672),
        "mlp.down_proj": (28672, 8192),
    }
    shapes: Shapes = {}
    for layer in range(80):
        for module, (inputs, outputs) in linear.items():
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            shapes[f"{prefix}.lora_A.weight"] = (32, inputs)
            shapes[f"{prefix}.lora_B.weight"] = (outputs, 32)
    return shapes


def _random(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Return random numbers with small exponents: no NaNs, not compressible."""
    torch.manual_seed(0)
    tensors = {}
    for name, shape in shapes.items():
        raw = torch.randint(-(2**15), 2**15, shape, dtype=torch.int16)
        tensors[name] = raw.bitwise_and_(0x3FFF).view(torch.float16)
    return tensors


def _config(decoder: SampleDecoder) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": decoder.hidden,
        "intermediate_size": decoder.intermediate,
        "num_hidden_layers": decoder.num_layers,
        "num_attention_heads": decoder.hidden // 64,
        "num_key_value_heads": decoder.kv_hidden // 64,
        "vocab_size": decoder.vocab,
        "tie_word_embeddings": decoder.tied,
        "torch_dtype": "float16",
    }
