"""Engines by name, from settings that are data."""

from pathlib import Path
from typing import TypeVar

import msgspec

from sllmcore.errors import UsageError
from sllmreal.engine.protocol import Engine
from sllmreal.engine.timed import TimedOptions, timed_engine

T = TypeVar("T")


class TransformersSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model of transformers, its weights at `path`. `num_threads` are torch's, None for all."""

    path: str
    device: str = "cpu"
    num_slots: int = 8
    context_tokens: int | None = None
    num_threads: int | None = None


def make_engine(name: str, settings: bytes) -> Engine:
    """The engine called "timed" or "transformers", from the MessagePack of its settings.

    Raises UsageError, and what loading a model raises.
    """
    match name:
        case "timed":
            return timed_engine(_decoded(settings, TimedOptions))
        case "transformers":
            return _transformers_engine(_decoded(settings, TransformersSettings))
        case _:
            raise UsageError(f"an engine is timed or transformers, got {name!r}")


def _transformers_engine(settings: TransformersSettings) -> Engine:
    import torch  # the other engines do without

    from sllmreal.engine.build import EngineOptions, build_engine

    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    options = EngineOptions(settings.num_slots, settings.context_tokens)
    return build_engine(Path(settings.path), settings.device, options).engine


def _decoded(settings: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(settings, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"settings of an engine: {error}") from error
