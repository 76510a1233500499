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

from sllmreal.engine.build import EngineOptions, build_engine, engine_of
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
    reference = _reference(path, device)
    engine = _engine(path, reference, options)
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
    arrivals = _Arrivals()
    began_s = time.perf_counter()
    model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=False,
        max_new_tokens=shape.output_tokens,
        pad_token_id=0,
        streamer=arrivals,
    )
    _, first_at_s, *_ = arrivals.at_s
    total_s = time.perf_counter() - began_s
    return DecodeRow(
        THEIRS,
        shape.batch,
        shape.prompt_tokens,
        shape.output_tokens,
        number,
        total_s,
        first_at_s - began_s,
    )


class _Arrivals:
    """When `generate` said something, as its streamer: the prompts, then a token of each."""

    def __init__(self) -> None:
        self.at_s: list[float] = []

    def put(self, _tokens: torch.Tensor) -> None:
        self.at_s.append(time.perf_counter())

    def end(self) -> None:
        """It has no more to say."""


def _engine(path: Path, reference: Any, options: EngineOptions) -> Engine:
    """On a CPU, of the reference's own tensors, so that nothing but the loops differs."""
    if reference.device.type == "cpu":
        return engine_of(path, reference.state_dict(), options)
    return build_engine(path, reference.device, options).engine


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
