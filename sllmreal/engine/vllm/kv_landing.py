"""A vLLM KV connector that puts imported KV into the blocks of a request that is about to run.

The engine keeps the KV of a held sequence on a *shelf*, in memory of this process. When the
sequence is released, its request is submitted with all known tokens; the scheduler asks this
connector how many tokens beyond the prefix cache it has, and the worker side copies them into the
blocks that the scheduler allocated. Only for engines of one process (no tensor parallelism).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)

from sllmreal.engine.vllm.kv_layout import write_positions


@dataclass(slots=True)
class Shelf:
    """KV of the positions [begin, end): per layer keys and values, (heads, end - begin, dim)."""

    begin: int
    layers: list[tuple[torch.Tensor, torch.Tensor]]

    @property
    def end(self) -> int:
        return self.begin + self.layers[0][0].shape[1]

    def put(self, begin: int, layers: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Replace what is there from `begin` on, which must be in [self.begin, self.end]."""
        kept = begin - self.begin
        self.layers = [
            (
                torch.cat((keys[:, :kept], more_keys), 1),
                torch.cat((values[:, :kept], more_values), 1),
            )
            for (keys, values), (more_keys, more_values) in zip(self.layers, layers, strict=True)
        ]


# vLLM constructs connectors by their path, so what they share with the engine stands here.
# By vLLM request id.
SHELVES: dict[str, Shelf] = {}


@dataclass
class _Landing:
    request_id: str
    first: int
    num_tokens: int
    blocks: list[int]


@dataclass
class _Landings(KVConnectorMetadata):  # type: ignore[misc]
    landings: list[_Landing] = field(default_factory=list)


class KvLanding(KVConnectorBase_V1):  # type: ignore[misc]
    """Loads shelved KV before the forward pass that needs it."""

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: Any = None
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._wanted: dict[str, tuple[int, int]] = {}  # request id: first position, tokens
        self._landings = _Landings()

    # Scheduler side.

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int, bool]:
        """Return how many tokens after the computed ones are on the shelf; they load at once."""
        shelf = SHELVES.get(request.request_id)
        if shelf is None or not shelf.begin <= num_computed_tokens < shelf.end:
            return 0, False
        # The last known token is computed, for its logits give the next one.
        num_tokens = min(shelf.end, request.num_tokens - 1) - num_computed_tokens
        if num_tokens <= 0:
            return 0, False
        self._wanted[request.request_id] = (num_computed_tokens, num_tokens)
        return num_tokens, False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        first, num_tokens = self._wanted.pop(request.request_id, (0, 0))
        if num_external_tokens > 0:
            assert num_tokens == num_external_tokens, "the scheduler loads what it was offered"
            [block_ids] = blocks.get_block_ids()
            self._landings.landings.append(
                _Landing(request.request_id, first, num_tokens, list(block_ids))
            )

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        landings, self._landings = self._landings, _Landings()
        return landings

    # Worker side.

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, _Landings)
        if not metadata.landings:
            return
        # vLLM keeps one worker-side connector per process, so the caches are those of this pass.
        layers = forward_context.no_compile_layers.values()
        caches = [layer.kv_cache for layer in layers if hasattr(layer, "kv_cache")]
        for landing in metadata.landings:
            shelf = SHELVES.pop(landing.request_id)
            begin = landing.first - shelf.begin
            for cache, (keys, values) in zip(caches, shelf.layers, strict=True):
                write_positions(
                    cache=cache,
                    blocks=landing.blocks,
                    begin=landing.first,
                    keys=keys[:, begin : begin + landing.num_tokens],
                    values=values[:, begin : begin + landing.num_tokens],
                )

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Return at once: loads are synchronous."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Do nothing: the engine exports KV itself."""

    def wait_for_save(self) -> None:
        """Return at once."""
