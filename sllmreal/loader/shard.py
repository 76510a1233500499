"""The slices of one tensor-parallel rank; every degree uses the same files.

Rank r of n holds elements  [r * d / n, (r + 1) * d / n)  (rounded down) of a split dimension of
extent d. A fused tensor is `num_blocks` equal blocks along that dimension, each split the same way.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sllmcore.errors import UsageError
from sllmreal.checkpoint.dtypes import ITEM_BYTES
from sllmreal.checkpoint.layout import TensorEntry
from sllmreal.loader.plan import ByteRange, tensor_range


@dataclass(frozen=True, slots=True)
class SplitRule:
    """A rule: tensors with a name that matches `pattern` are split along `dim`."""

    pattern: str
    dim: int
    num_blocks: int = 1


# Column-parallel weights are split by outputs (dimension 0), row-parallel ones by inputs (1).
COMMON_RULES = (
    SplitRule(r"\.(q_proj|k_proj|v_proj|gate_proj|up_proj|fc1|w1|w3)\.(weight|bias)$", 0),
    SplitRule(r"\.(o_proj|out_proj|down_proj|fc2|w2)\.weight$", 1),
    SplitRule(r"\.dense_h_to_4h\.(weight|bias)$", 0),
    SplitRule(r"\.(dense_4h_to_h|self_attention\.dense)\.weight$", 1),
    SplitRule(r"(^|\.)(embed_tokens|word_embeddings|lm_head)\.weight$", 0),
)


@dataclass(frozen=True, slots=True)
class Shard:
    """A rank of a tensor-parallel group. The first matching rule applies; if none, no split."""

    rank: int
    degree: int
    rules: Sequence[SplitRule] = COMMON_RULES

    def __post_init__(self) -> None:
        if self.degree <= 0 or not 0 <= self.rank < self.degree:
            raise UsageError(f"rank must be in [0, degree), got {self.rank} of {self.degree}")


def rules_of_plan(plan: Mapping[str, str]) -> tuple[SplitRule, ...]:
    """Return the rules of a transformers `tp_plan`: colwise and rowwise modules are split."""
    rules = []
    for module, style in plan.items():
        name = re.escape(module).replace(r"\*", r"\d+")
        if style.startswith("colwise"):
            rules.append(SplitRule(rf"(^|\.){name}\.(weight|bias)$", 0))
        elif style.startswith("rowwise"):
            rules.append(SplitRule(rf"(^|\.){name}\.weight$", 1))
    return tuple(rules)


def split_rule(entry: TensorEntry, shard: Shard) -> SplitRule | None:
    """Return the rule for a tensor; None if every rank holds all of it.

    Raises UsageError if its extent is not a multiple of the rule's `num_blocks`.
    """
    for rule in shard.rules:
        if re.search(rule.pattern, entry.name):
            if rule.dim >= len(entry.shape):
                return None
            if entry.shape[rule.dim] % rule.num_blocks:
                raise UsageError(
                    f"{entry.name}: {entry.shape} cannot be cut into {rule.num_blocks} equal blocks"
                )
            return rule
    return None


def wanted_ranges(entry: TensorEntry, shard: Shard) -> list[ByteRange]:
    """Return the ranges that a rank needs: its rows if rows are split, else the whole storage."""
    whole = tensor_range(entry)
    rule = split_rule(entry, shard)
    if rule is None or rule.dim != 0 or entry.empty or not entry.contiguous:
        return [whole]
    rows = entry.shape[0]
    row_bytes = ITEM_BYTES[entry.dtype]
    for extent in entry.shape[1:]:
        row_bytes *= extent
    return [
        ByteRange(
            entry.partition,
            entry.begin_bytes + begin * row_bytes,
            entry.begin_bytes + end * row_bytes,
        )
        for begin, end in _slices(rows, rule.num_blocks, shard)
    ]


def sliced(tensor: torch.Tensor, entry: TensorEntry, shard: Shard) -> torch.Tensor:
    """Return the rank's slice: a view; a copy if the blocks of a fused tensor are joined."""
    rule = split_rule(entry, shard)
    if rule is None:
        return tensor
    slices = _slices(entry.shape[rule.dim], rule.num_blocks, shard)
    parts = [tensor.narrow(rule.dim, begin, end - begin) for begin, end in slices]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=rule.dim)


def _slices(extent: int, num_blocks: int, shard: Shard) -> list[tuple[int, int]]:
    block = extent // num_blocks
    begin = block * shard.rank // shard.degree
    end = block * (shard.rank + 1) // shard.degree
    return [(number * block + begin, number * block + end) for number in range(num_blocks)]
