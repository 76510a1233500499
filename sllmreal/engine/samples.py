"""Small models of four families with random weights, in the layout of the Hugging Face hub.

Weights are scaled so that activations keep their size through the layers and every token of the
context matters: linear layers and heads N(0, g^2 / inputs), embeddings N(0, 1), norms 1. Logits
    then
have a deviation of about g_head, and the best token leads the second by about g_head / sqrt(2 ln
vocabulary): some 10^5 times the rounding of float32.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sllmcore.errors import UsageError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

FAMILIES = ("falcon", "llama", "opt", "qwen")
END_TOKEN = 0  # of the tokenizer, too

_LINEAR_GAIN = 1.4
_HEAD_GAIN = 4.0
_BIAS_DEVIATION = 0.1


@dataclass(frozen=True, slots=True)
class Size:
    """The sizes that all families have."""

    num_layers: int
    hidden: int
    intermediate: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    context_tokens: int


SIZES = {
    "tiny": Size(
        num_layers=2,
        hidden=64,
        intermediate=128,
        num_heads=4,
        num_kv_heads=2,
        vocab_size=1024,
        context_tokens=512,
    ),  # 0.2 M parameters
    "mini": Size(
        num_layers=2,
        hidden=128,
        intermediate=256,
        num_heads=4,
        num_kv_heads=2,
        vocab_size=1024,
        context_tokens=512,
    ),  # 0.5 M; heads of 32, the least that vLLM runs
    "small": Size(
        num_layers=4,
        hidden=256,
        intermediate=768,
        num_heads=8,
        num_kv_heads=4,
        vocab_size=2048,
        context_tokens=2048,
    ),  # 4 M
    "medium": Size(
        num_layers=16,
        hidden=1024,
        intermediate=4096,
        num_heads=16,
        num_kv_heads=8,
        vocab_size=32000,
        context_tokens=2048,
    ),  # 0.3 B
    "large": Size(
        num_layers=22,
        hidden=2048,
        intermediate=5632,
        num_heads=32,
        num_kv_heads=4,
        vocab_size=32000,
        context_tokens=2048,
    ),  # 1.1 B, TinyLlama's shape
}
SAMPLES = tuple(f"{family}-{size}" for family in FAMILIES for size in SIZES)


def write_sample(
    directory: str | Path,
    name: str,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    with_tokenizer: bool = False,
) -> Path:
    """Write config.json and model.safetensors of `name`, such as "llama-tiny"; return `directory`.

    The tokenizer is a byte-level BPE trained on the Python manual that comes with Python.
    """
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    if name not in SAMPLES:
        raise UsageError(f"a sample is one of {', '.join(SAMPLES)}, got {name}")
    family, _, size = name.partition("-")
    config = sample_config(family, SIZES[size], dtype)
    automatic: Any = AutoModelForCausalLM  # its methods have no annotations
    with torch.device("meta"):
        model = automatic.from_config(config)
    model.to_empty(device="cpu")
    _fill(model, seed)
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    config.architectures = [type(model).__name__]
    config.save_pretrained(target)
    save_file(model.state_dict(), target / "model.safetensors", {"format": "pt"})
    if with_tokenizer:
        from sllmreal.engine.sample_tokenizer import write_tokenizer

        write_tokenizer(target, SIZES[size].vocab_size)
    return target


def sample_config(family: str, size: Size, dtype: torch.dtype) -> "PretrainedConfig":
    """Return the configuration of a family at a size."""
    import transformers

    common: dict[str, Any] = {
        "vocab_size": size.vocab_size,
        "hidden_size": size.hidden,
        "num_hidden_layers": size.num_layers,
        "num_attention_heads": size.num_heads,
        "max_position_embeddings": size.context_tokens,
        "tie_word_embeddings": False,  # with a tied head the last token is repeated for ever
        "bos_token_id": END_TOKEN,
        "eos_token_id": END_TOKEN,
        "pad_token_id": None,
        "dtype": dtype,
    }
    gated: dict[str, Any] = {
        **common,
        "intermediate_size": size.intermediate,
        "num_key_value_heads": size.num_kv_heads,
    }
    match family:
        case "llama":
            return transformers.LlamaConfig(**gated)
        case "qwen":
            return transformers.Qwen2Config(**gated)
        case "opt":
            inner: dict[str, Any] = {
                "ffn_dim": size.intermediate,
                "word_embed_proj_dim": size.hidden,
            }
            return transformers.OPTConfig(**common, **inner)
        case "falcon":
            return transformers.FalconConfig(**common, ffn_hidden_size=size.intermediate)
        case _:
            raise UsageError(f"a family is one of {', '.join(FAMILIES)}, got {family}")


@torch.no_grad()
def _fill(model: torch.nn.Module, seed: int) -> None:
    """Set every parameter by its name, so that the same seed gives the same file."""
    source = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0, _BIAS_DEVIATION, generator=source)
        elif parameter.dim() == 1:
            parameter.fill_(1)
        elif "embed" in name:
            parameter.normal_(0, 1, generator=source)
        else:
            gain = _HEAD_GAIN if name.startswith("lm_head") else _LINEAR_GAIN
            parameter.normal_(0, gain / parameter.shape[1] ** 0.5, generator=source)
