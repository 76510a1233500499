"""Tokens per second of our decode loop and of `generate`, in rounds that alternate.

Both have the same weights, prompts and number of output tokens, chosen greedily.
    decode rate = batch * (output - 1) / (total - time to everyone's first token)
    overhead    = 1 - model_s / step_s,  of the steps after that
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sllmreal.engine.build import EngineOptions, build_engine
from sllmreal.engine.protocol import Engine, SequenceSpec

OURS, THEIRS = "ours", "generate"


@dataclass(frozen=True, slots=True)
class Shape:
    """How much is asked at once."""

    batch: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """One batch from its start to its last token."""

    loop: str
    batch: int
    prompt_tokens: int
    output_tokens: int
    round: int
    total_s: float
    first_token_s: float
    overhead: float | None = None  # of our steps
    overhead_step_s: float | None = None

    @property
    def tokens_per_s(self) -> float:
        return self.batch * self.output_tokens / self.total_s

    @property
    def decode_tokens_per_s(self) -> float:
        return self.batch * (self.output_tokens - 1) / (self.total_s - self.first_token_s)


def compare(path: Path, device: str, shapes: list[Shape], rounds: int) -> Iterator[DecodeRow]:
    """Rows of both loops for each shape, after one short round that is not counted."""
    options = EngineOptions(num_slots=max(shape.batch for shape in shapes))
    engine = build_engine(path, device, options).engine
    reference = _reference(path, device)
    for shape in shapes:
        warm = Shape(shape.batch, shape.prompt_tokens, 2)
        _ours(engine, warm, 0)
        _generate(reference, warm, 0)
    for number in range(rounds):
        for shape in shapes:
            yield _ours(engine, shape, number)
            yield _generate(reference, shape, number)
    engine.close()


def _ours(engine: Engine, shape: Shape, number: int) -> DecodeRow:
    names = [str(row) for row in range(shape.batch)]
    began_s = time.perf_counter()
    for name, prompt in zip(names, _prompts(engine.capabilities.vocab_size, shape), strict=True):
        engine.start(SequenceSpec(name, tuple(prompt), shape.output_tokens))
    num_started = 0
    while num_started < shape.batch:
        num_started += sum(token.index == 0 for token in engine.step())
    first_token_s = time.perf_counter() - began_s
    before = engine.statistics()
    while engine.has_work:
        engine.step()
    total_s = time.perf_counter() - began_s
    after = engine.statistics()
    for name in names:
        engine.cancel(name)
    step_s, model_s = after.step_s - before.step_s, after.model_s - before.model_s
    return DecodeRow(
        OURS,
        shape.batch,
        shape.prompt_tokens,
        shape.output_tokens,
        number,
        total_s,
        first_token_s,
        overhead=1 - model_s / step_s,
        overhead_step_s=(step_s - model_s) / (after.num_steps - before.num_steps),
    )


def _generate(model: Any, shape: Shape, number: int) -> DecodeRow:
    prompts = torch.tensor(_prompts(model.config.vocab_size, shape), device=model.device)
    mask = torch.ones_like(prompts)
    seconds = []
    for num_tokens in (1, shape.output_tokens):
        began_s = time.perf_counter()
        model.generate(
            prompts, attention_mask=mask, do_sample=False, max_new_tokens=num_tokens, pad_token_id=0
        )
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began_s)
    first_token_s, total_s = seconds
    return DecodeRow(
        THEIRS,
        shape.batch,
        shape.prompt_tokens,
        shape.output_tokens,
        number,
        total_s,
        first_token_s,
    )


def _reference(path: Path, device: str) -> Any:
    from transformers import AutoModelForCausalLM

    automatic: Any = AutoModelForCausalLM  # its methods have no annotations
    model = automatic.from_pretrained(path, dtype="auto").to(device).eval()
    model.generation_config.eos_token_id = None
    return model


def _prompts(vocab_size: int, shape: Shape) -> list[list[int]]:
    source = torch.Generator().manual_seed(shape.batch)
    size = (shape.batch, shape.prompt_tokens)
    prompts: list[list[int]] = torch.randint(1, vocab_size, size, generator=source).tolist()
    return prompts
