"""A transformer's shape, and the parameter and byte counts that follow from it.

    attention = hidden * head_dim * (2 * num_heads + 2 * num_kv_heads)      (q, o, k, v)
    expert    = hidden * ffn * (3 if gated else 2)
    layer     = attention + num_experts * expert + router
    model     = layers * layer + embedding + positions + head (if untied)

Biases and norms, less than 0.1 % of any catalogued model, are neglected.
"""

from dataclasses import dataclass
from math import pow as power

from sllmcore.errors import UsageError
from sllmsim.catalog.dtypes import KV_BYTES, WEIGHT_BYTES, Dtype

_SIZES = (
    "num_layers",
    "hidden_size",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "ffn_size",
    "vocab_size",
    "max_context_tokens",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model's shape, as in its published config.json. A dense model has one expert, no router."""

    name: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_size: int  # of one expert
    gated: bool
    vocab_size: int
    tied_embeddings: bool
    max_context_tokens: int
    num_positions: int = 0  # rows of a learned position table; 0: rotary
    embedding_size: int | None = None  # None: hidden_size; else projected, as in OPT-350M
    num_experts: int = 1
    experts_per_token: int = 1

    def __post_init__(self) -> None:
        for name in _SIZES:
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} of {self.name} must be positive: {getattr(self, name)}")
        if self.num_heads % self.num_kv_heads:
            raise UsageError(f"num_kv_heads of {self.name} must divide {self.num_heads} heads")
        if not 1 <= self.experts_per_token <= self.num_experts:
            raise UsageError(f"experts_per_token of {self.name} must be in 1..{self.num_experts}")

    @property
    def layer_shared_parameters(self) -> int:
        """Weights of one layer that every token uses: attention and router."""
        heads = 2 * self.num_heads + 2 * self.num_kv_heads
        router = self.hidden_size * self.num_experts if self.num_experts > 1 else 0
        return self.hidden_size * self.head_dim * heads + router

    @property
    def expert_parameters(self) -> int:
        """Weights of one expert of one layer, or of the MLP of a dense layer."""
        return self.hidden_size * self.ffn_size * (3 if self.gated else 2)

    @property
    def head_parameters(self) -> int:
        """Weights from the last hidden state to the logits, also those of a tied head."""
        return self.vocab_size * (self.embedding_size or self.hidden_size) + self._projection

    @property
    def num_parameters(self) -> int:
        """Weights of the model."""
        return self._parameters(self.num_experts)

    @property
    def num_active_parameters(self) -> int:
        """Weights that one token uses. By convention all embeddings count."""
        return self._parameters(self.experts_per_token)

    @property
    def layer_parameters_per_token(self) -> int:
        """Weights that one token is multiplied by in all layers, without embedding and head."""
        expert = self.experts_per_token * self.expert_parameters
        return self.num_layers * (self.layer_shared_parameters + expert)

    def weight_bytes(self, dtype: Dtype) -> int:
        """Return the bytes of a checkpoint: layers in `dtype`, embeddings and head in fp16.

        Published quantised checkpoints keep embeddings and head in fp16.
        """
        layers = self.num_parameters - self._embedding_parameters
        return round(layers * WEIGHT_BYTES[dtype] + self._embedding_parameters * 2)

    def kv_bytes_per_token(self, dtype: Dtype = Dtype.FP16) -> int:
        """Return 2 (key, value) * layers * kv heads * head_dim * bytes, in the cache's `dtype`."""
        numbers = 2 * self.num_layers * self.num_kv_heads * self.head_dim
        return round(numbers * KV_BYTES[dtype])

    def experts_touched(self, num_tokens: float) -> float:
        """Return the expected distinct experts per layer, routed uniformly: E (1 - (1 - k/E)^n)."""
        idle = 1 - self.experts_per_token / self.num_experts
        return self.num_experts * (1 - power(idle, num_tokens))

    def read_bytes(self, dtype: Dtype, num_tokens: float) -> float:
        """Return the bytes of weights that one pass over `num_tokens` tokens reads.

        They are shared weights, the experts touched, and the head. The rows of the input embedding
        are neglected.
        """
        expert = self.experts_touched(num_tokens) * self.expert_parameters
        layers = self.num_layers * (self.layer_shared_parameters + expert)
        return layers * WEIGHT_BYTES[dtype] + self.head_parameters * 2

    @property
    def _projection(self) -> int:
        return (self.embedding_size or 0) * self.hidden_size

    @property
    def _embedding_parameters(self) -> int:
        table = self.vocab_size * (self.embedding_size or self.hidden_size) + self._projection
        head = self._projection if self.tied_embeddings else table
        return table + head + self.num_positions * self.hidden_size

    def _parameters(self, experts: int) -> int:
        layer = self.layer_shared_parameters + experts * self.expert_parameters
        return self.num_layers * layer + self._embedding_parameters
