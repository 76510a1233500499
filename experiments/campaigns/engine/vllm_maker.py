"""Makers of vLLM engines of one sample model; they run in vLLM's environment."""

from dataclasses import dataclass
from pathlib import Path

import torch

from sllmreal.engine.protocol import Engine
from sllmreal.engine.samples import write_sample
from sllmreal.engine.vllm.build import VllmModel, vllm_engine
from sllmreal.engine.vllm.settings import VllmSettings

_BLOCK_TOKENS = 32


@dataclass(frozen=True, slots=True)
class VllmMaker:
    """Engines of one sample model, which is written under `directory` once.

    vLLM's parallel state is of a process, so engines of one rank share one, in this process.
    An engine of more ranks has a process for each.
    """

    directory: Path
    name: str
    dtype: torch.dtype = torch.float32
    num_ranks: int = 1

    def __call__(
        self, *, num_slots: int = 4, context_tokens: int = 128, chunk_tokens: int = 8
    ) -> Engine:
        path = self.directory / f"{self.name}-{self.dtype}".replace("torch.", "")
        if not path.exists():
            write_sample(path, self.name, dtype=self.dtype)
        settings = VllmSettings(
            dtype=str(self.dtype).removeprefix("torch."),
            block_size=_BLOCK_TOKENS,
            # vLLM's budget of a step counts a decoded token too; the slot engine's chunk does not.
            max_num_batched_tokens=max(chunk_tokens + 1, num_slots),
        )
        engine, _ = vllm_engine(
            VllmModel(
                directory=str(path),
                num_slots=num_slots,
                context_tokens=context_tokens,
                settings=settings,
                num_ranks=self.num_ranks,
            )
        )
        return engine
