"""Compare tokens per second of our decode loop and of `generate`, in alternating rounds.

Both use the same weights, prompts and number of output tokens, and greedy sampling.
    decode rate = batch * (output - 1) / (total - time until all sequences have their first token)
    overhead    = 1 - model_s / step_s,  over the steps after that
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sllmreal.engine.build import EngineOptions, build_engine, engine_of
from sllmreal.engine.protocol import Engine, SequenceSpec

OURS, GENERATE = "ours", "generate"


@dataclass(frozen=True, slots=True)
class BatchShape:
    """Number of sequences of a batch, and their prompt and output lengths."""

    batch: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """Measured decoding of a batch, from its start to its last token.

    Attributes:
        loop: "ours" or "generate".
        first_token_s: Until all sequences have their first token.
        overhead: Share of our steps that is spent outside the model.
        overhead_step_s: The same in seconds per step.
    """

    loop: str
    batch: int
    prompt_tokens: int
    output_tokens: int
    round: int
    total_s: float
    first_token_s: float
    overhead: float | None = None
    overhead_step_s: float | None = None

    @property
    def tokens_per_s(self) -> float:
        """Output tokens per second, prefill included."""
        return self.batch * self.output_tokens / self.total_s

    @property
    def decode_tokens_per_s(self) -> float:
        """Output tokens per second after the first token."""
        return self.batch * (self.output_tokens - 1) / (self.total_s - self.first_token_s)


def compare(path: Path, device: str, shapes: list[BatchShape], rounds: int) -> Iterator[DecodeRow]:
    """Yield a row per round, shape and loop, after a short warm-up round."""
    options = EngineOptions(num_slots=max(shape.batch for shape in shapes))
    reference = _reference(path, device)
    engine = _engine(path, reference, options)
    for shape in shapes:
        warm_up = BatchShape(shape.batch, shape.prompt_tokens, 2)
        _ours(engine, warm_up, 0)
        _generate(reference, warm_up, 0)
    for number in range(rounds):
        for shape in shapes:
            yield _ours(engine, shape, number)
            yield _generate(reference, shape, number)
    engine.close()


def _ours(engine: Engine, shape: BatchShape, number: int) -> DecodeRow:
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
        loop=OURS,
        batch=shape.batch,
        prompt_tokens=shape.prompt_tokens,
        output_tokens=shape.output_tokens,
        round=number,
        total_s=total_s,
        first_token_s=first_token_s,
        overhead=1 - model_s / step_s,
        overhead_step_s=(step_s - model_s) / (after.num_steps - before.num_steps),
    )


def _generate(model: Any, shape: BatchShape, number: int) -> DecodeRow:
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
        loop=GENERATE,
        batch=shape.batch,
        prompt_tokens=shape.prompt_tokens,
        output_tokens=shape.output_tokens,
        round=number,
        total_s=total_s,
        first_token_s=first_at_s - began_s,
    )


class _Arrivals:
    """A streamer for `generate` that records when it is called: for the prompts, then per token."""

    def __init__(self) -> None:
        self.at_s: list[float] = []

    def put(self, _tokens: torch.Tensor) -> None:
        self.at_s.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing; part of the streamer's interface."""


def _engine(path: Path, reference: Any, options: EngineOptions) -> Engine:
    """Build our engine; on a CPU from the tensors of `reference`, so that only the loops differ."""
    if reference.device.type == "cpu":
        return engine_of(path, reference.state_dict(), options)
    return build_engine(path, reference.device, options).engine


def _reference(path: Path, device: str) -> Any:
    from transformers import AutoModelForCausalLM

    automatic: Any = AutoModelForCausalLM  # its methods have no annotations
    model = automatic.from_pretrained(path, dtype="auto").to(device).eval()
    model.generation_config.eos_token_id = None
    return model


def _prompts(vocab_size: int, shape: BatchShape) -> list[list[int]]:
    source = torch.Generator().manual_seed(shape.batch)
    size = (shape.batch, shape.prompt_tokens)
    prompts: list[list[int]] = torch.randint(1, vocab_size, size, generator=source).tolist()
    return prompts
