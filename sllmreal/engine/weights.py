"""The place of an instance's weights: chunks of a worker's pool, as a message describes them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolPlace:
    """Chunk `number` of a partition lies in chunk `chunk` of the pool."""

    partition: int
    number: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Weights:
    """The directory and the memory of a model's weights while its instance lives.

    `directory` holds configuration, tokenizer and index; the tensors' bytes are in the pool, which
    is the memory behind the descriptor `pool_fd` of process `pool_pid`.
    """

    directory: str
    identity: str
    pool_pid: int
    pool_fd: int
    chunk_bytes: int
    places: tuple[PoolPlace, ...]
