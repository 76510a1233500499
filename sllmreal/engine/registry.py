"""The registry of engines: those that come with the toolkit, and installed ones."""

from typing import Any

from sllmcore.plugins import PLUGINS
from sllmcore.registry import Registry
from sllmreal.engine.kind import DEFAULT_ENGINE, EngineKind
from sllmreal.engine.timed import TIMED
from sllmreal.engine.transformers_engine import TRANSFORMERS
from sllmreal.engine.vllm.kind import VLLM

ENGINES: Registry[EngineKind[Any]] = Registry(
    what="engine",
    group="sllm.engines",
    kind=EngineKind,
    built_in={DEFAULT_ENGINE: TRANSFORMERS, "timed": TIMED, "vllm": VLLM},
    source=PLUGINS,
)
