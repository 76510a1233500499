"""Descriptors of the kinds of engines; `registry` has those that there are."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from sllmreal.engine.protocol import Engine
from sllmreal.engine.weights import Weights

if TYPE_CHECKING:
    from sllmreal.loader.pool import ChunkPool

S = TypeVar("S")

DEFAULT_ENGINE = "transformers"  # of a deployment that names none, and of spare processes


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A deployed model, from which an engine is made.

    Args:
        num_slots: Requests that the engine runs at once.
        weights: Verified bytes in the worker's pool, and the directory of the other files; None
            where the kind needs no weights or the worker's storage only pretends to load.
        pool: The pool, in the worker's own process; None in another process.
    """

    name: str
    context_tokens: int
    num_slots: int
    num_gpus: int
    weights: Weights | None = None
    pool: "ChunkPool | None" = None


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python of an engine's process, and what its environment has besides the worker's.

    That Python must be able to import `sllmreal.worker.child`.
    """

    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)


def _no_check(directory: Path, config: Mapping[str, object]) -> None:
    """Accept every model."""


def _nothing() -> None:
    """Do nothing: there is nothing to import."""


@dataclass(frozen=True, slots=True)
class EngineKind(Generic[S]):
    """A kind of engine to be registered: entry point group `sllm.engines`.

    Args:
        settings: A frozen dataclass; a deployment gives its values.
        make: Makes the engine, in its process. Raises UsageError for a model that it cannot run.
        needs_weights: Engines need a checkpoint. Otherwise any directory, or none, can be deployed.
        paced: Engines compute nothing: they sleep for the times that the settings
            `prefill_token_s`, `decode_step_s` and `decode_sequence_s` give.
        check_model: Refuses, by a UsageError, to deploy a directory with that config.json, which is
            empty where there is none and the kind needs no weights.
        prepare: Does, in an engine's process, what takes long and needs no weights: imports.
        warm_up: Does, in a spare process, what takes long whatever the model, without memory of a
            device.
        interpreter: Returns the Python of the engines' processes. Raises UsageError if there is
            none on this machine.
    """

    settings: type[S]
    make: Callable[[EngineModel, S], Engine]
    needs_weights: bool = True
    paced: bool = False
    check_model: Callable[[Path, Mapping[str, object]], None] = _no_check
    prepare: Callable[[], None] = _nothing
    warm_up: Callable[[], None] = _nothing
    interpreter: Callable[[], Interpreter] = Interpreter
