"""The order in which a forward pass needs its tensors, guessed from their names.

Embeddings come first, then the layers by number, the final norms and the output head; within a
layer, the usual order of a block. A caller that knows the real order passes it in `WriteOptions`.
"""

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"\d+")
_EMBEDDING = re.compile(r"embed|wte|wpe|word_embeddings|position", re.IGNORECASE)
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output|score|classifier)\.", re.IGNORECASE)
_BLOCK = (  # sublayers in execution order; the first match decides
    re.compile(r"input_layernorm|ln_1|attention_norm|self_attn_layer_norm|ln_attn"),
    re.compile(r"q_proj|query|qkv|c_attn|q_a_proj|q_b_proj|q_norm"),
    re.compile(r"k_proj|key(?!_value)|kv_a|kv_b|k_norm"),
    re.compile(r"v_proj|value"),
    re.compile(r"o_proj|out_proj|attn.*dense|attention.*dense|c_proj"),
    re.compile(r"post_attention_layernorm|ln_2|final_layer_norm|ffn_norm|ln_mlp"),
    re.compile(r"router|gate\.|gate$"),
    re.compile(r"gate_proj|up_proj|gate_up|fc1|w1|w3|h_to_4h|c_fc"),
    re.compile(r"down_proj|fc2|w2|4h_to_h"),
)


def execution_order(names: Iterable[str]) -> list[str]:
    """Sort `names` as a forward pass needs them. The result does not depend on the given order."""
    return sorted(names, key=_rank)


def _rank(name: str) -> tuple[int, tuple[int, ...], int, str]:
    numbers = tuple(int(number[:18]) for number in _NUMBER.findall(name))
    if _HEAD.search(name):
        stage = 3
    elif numbers:
        stage = 1
    else:
        stage = 0 if _EMBEDDING.search(name) else 2
    sublayer = next((i for i, kind in enumerate(_BLOCK) if kind.search(name)), len(_BLOCK))
    return stage, numbers[:1], sublayer, name
