"""Log probabilities of tokens, packed: they travel beside the tokens that they belong to.

    logprob(t) = logit(t) - log sum exp(logits), of the model's logits, before bias and penalties

A *record* belongs to one output token. It has the token's entry, then those of the k likeliest
tokens, where k is `Sampling.logprobs`. An entry is a token (4 bytes) and its log probability
(float32), little-endian. All records of a sequence have the same size; without `Sampling.logprobs`
they are empty. The record of a token that another engine generated may be absent: it is NaN.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sllmcore.errors import UsageError
from sllmreal.engine.protocol import Sampling

if TYPE_CHECKING:  # gateways and workers read records, and have no use for torch
    import torch

_ENTRY = struct.Struct("<If")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and its log probability."""

    token: int
    logprob: float


@dataclass(frozen=True, slots=True)
class LogprobRecord:
    """The log probability of an output token, and the likeliest tokens in its place."""

    chosen: TokenLogprob
    likeliest: tuple[TokenLogprob, ...]


def record_bytes(sampling: Sampling) -> int:
    """Return the size of a record."""
    return 0 if sampling.logprobs is None else _ENTRY.size * (1 + sampling.logprobs)


def absent_record(sampling: Sampling) -> bytes:
    """Return the record of a token of which the log probability is not known here."""
    if sampling.logprobs is None:
        return b""
    return _ENTRY.pack(0, math.nan) * (1 + sampling.logprobs)


def packed_record(logits: "torch.Tensor", token: int, sampling: Sampling) -> bytes:
    """Return the record of a token that was chosen from `logits`, of shape (vocabulary,)."""
    if sampling.logprobs is None:
        return b""
    logprobs = logits.double().log_softmax(-1)
    likeliest = logprobs.topk(sampling.logprobs)
    tokens = [token, *likeliest.indices.tolist()]
    return packed_entries(tokens, [float(logprobs[token]), *likeliest.values.tolist()])


def packed_entries(tokens: Sequence[int], logprobs: Sequence[float]) -> bytes:
    """Return a record with these entries; the first is of the output token."""
    return b"".join(map(_ENTRY.pack, tokens, logprobs))


def split_records(records: bytes | memoryview, num_tokens: int) -> list[bytes]:
    """Return the record of each token; no records if none were requested.

    Raises UsageError if they have no common size.
    """
    if not records:
        return []
    if num_tokens == 0 or len(records) % num_tokens:
        raise UsageError(f"{len(records)} bytes are no records of {num_tokens} tokens")
    size = len(records) // num_tokens
    return [bytes(records[place * size : (place + 1) * size]) for place in range(num_tokens)]


def unpacked_record(record: bytes) -> LogprobRecord:
    """Return the content of a record."""
    entries = [TokenLogprob(token, logprob) for token, logprob in _ENTRY.iter_unpack(record)]
    return LogprobRecord(entries[0], tuple(entries[1:]))
