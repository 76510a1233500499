"""`sllm serve` as a process, and a model's tokens by transformers."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from sllmreal.cli.main import main

_SLLM = "import sys; from sllmreal.cli.main import main; sys.exit(main())"
_START_S = 60.0
_LARGEST_ROUNDING = 1e-3  # of a logit in float32; logits are some units apart


@dataclass(frozen=True, slots=True)
class ServedCluster:
    """A running `sllm serve`: its home, and OpenAI's client of it."""

    home: Path
    client: openai.OpenAI

    def deploy(self, source: Path, engine: str, *settings: str, name: str) -> int:
        """Run `sllm deploy`; return its exit code."""
        chosen = ("--set", *settings) if settings else ()
        command = ["deploy", str(source), "--home", str(self.home), "--engine", engine]
        return main([*command, "--name", name, *chosen])

    def models(self) -> list[str]:
        """Return the names of the deployed models."""
        return [model.id for model in self.client.models.list()]

    def tokens(self, model: str, prompt: Sequence[int], num_tokens: int) -> list[int]:
        """Return the greedy continuation of a prompt."""
        answer = self.client.completions.create(
            model=model,
            prompt=list(prompt),
            max_tokens=num_tokens,
            temperature=0,
            extra_body={"ignore_eos": True, "return_token_ids": True},
        )
        extra = answer.choices[0].model_extra or {}
        return [int(token) for token in extra["token_ids"]]


@contextmanager
def served(home: Path, gpu_memory_gb: float) -> Iterator[ServedCluster]:
    """Run `sllm serve` with two CPU slots until the context ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sizes = ("--gpus", "2", "--gpu-memory-gb", str(gpu_memory_gb), "--dram-gb", str(gpu_memory_gb))
    command = (*("serve", "--home", str(home), "--port", str(port)), *sizes)
    process = subprocess.Popen(
        [sys.executable, "-c", _SLLM, *command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _await_health(address, process)
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", timeout=200) as client:
            yield ServedCluster(home, client)
    finally:
        process.terminate()
        process.wait(30)


def _await_health(address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            if httpx.get(f"{address}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("`sllm serve` does not become healthy")


def in_float32(source: Path, target: Path) -> Path:
    """Write a model of one safetensors file with float32 weights; return `target`."""
    target.mkdir()
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, target)
    config = target / "config.json"
    config.write_text(config.read_text().replace('"bfloat16"', '"float32"'))
    tensors = {k: v.float() for k, v in load_file(source / "model.safetensors").items()}
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


def reference(source: Path) -> PreTrainedModel:
    """Load a model with transformers; `generate` does not end at its stop tokens."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = None
    return model


def generated(model: PreTrainedModel, prompt: Sequence[int], num_tokens: int) -> list[int]:
    """Return the greedy continuation by `generate`."""
    ids = torch.tensor([list(prompt)])
    output = model.generate(  # type: ignore[operator]  # its base has no annotations
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_tokens, do_sample=False
    )
    return [int(token) for token in output[0, len(prompt) :]]


def unexplained_difference(
    model: PreTrainedModel, prompt: Sequence[int], expected: list[int], found: list[int]
) -> str | None:
    """Return None if outputs are equal, or first differ where two logits are as good as equal."""
    if found == expected:
        return None
    pairs = enumerate(zip(expected, found, strict=True))
    index = next(number for number, (one, other) in pairs if one != other)
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *expected[:index]]])).logits[0, -1]
    gap = float(logits[expected[index]] - logits[found[index]])
    if abs(gap) <= _LARGEST_ROUNDING:
        return None
    return f"token {index} is {found[index]} in place of {expected[index]}, {gap} below its logit"
