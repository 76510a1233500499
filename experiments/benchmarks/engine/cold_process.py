"""The child process of `cold`: perform one cold start.

    python -m experiments.benchmarks.engine.cold_process HOW PATH DEVICE

Prints a JSON line at the first token: its phases in seconds, and the token. The method `imported`
prints "ready" beforehand and waits for a line on stdin.
"""

import json
import sys
import time
from tempfile import TemporaryDirectory
from typing import Any

PROMPT = tuple(range(3, 19))


def main() -> None:
    """Cold-start by the method HOW: `alone` (our engine), `fresh` or `imported` (transformers)."""
    how, path, device = sys.argv[1:]
    start = {"alone": _ours, "fresh": _fresh, "imported": _imported}[how]
    phases, token = start(path, device)
    print(json.dumps({"phases": phases, "token": token}), flush=True)


def _ours(path: str, device: str) -> tuple[dict[str, float], int]:
    began_s = time.perf_counter()
    from sllmreal.engine.build import EngineOptions, build_engine
    from sllmreal.engine.protocol import SequenceSpec

    imported_s = time.perf_counter()
    built = build_engine(path, device, EngineOptions(num_slots=1))
    ready_s = time.perf_counter()
    built.engine.start(SequenceSpec("first", PROMPT, 1))
    token = built.engine.step()[0].token
    cold = built.cold_start
    return {
        "import torch and ours": imported_s - began_s,
        "import transformers": cold.import_s,
        "model object": cold.model_object_s,
        "weights (beside both)": cold.weights_s,
        "assign": cold.assign_s,
        "warm-up": cold.warm_up_s,
        "first token": time.perf_counter() - ready_s,
    }, token


def _fresh(path: str, device: str) -> tuple[dict[str, float], int]:
    began_s = time.perf_counter()
    import torch  # noqa: F401

    torch_s = time.perf_counter()
    from transformers import AutoModelForCausalLM  # noqa: F401

    imported_s = time.perf_counter()
    phases, token = _from_pretrained(path, device)
    imports = {"import torch": torch_s - began_s, "import transformers": imported_s - torch_s}
    return imports | phases, token


def _imported(path: str, device: str) -> tuple[dict[str, float], int]:
    import torch

    from sllmreal.engine.samples import write_sample

    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        with TemporaryDirectory() as directory:
            write_sample(directory, "llama-tiny", dtype=dtype)
            _from_pretrained(directory, device)
    print("ready", flush=True)
    sys.stdin.readline()
    return _from_pretrained(path, device)


def _from_pretrained(path: str, device: str) -> tuple[dict[str, float], int]:
    import torch
    from transformers import AutoModelForCausalLM

    began_s = time.perf_counter()
    automatic: Any = AutoModelForCausalLM  # its methods have no annotations
    placement = {} if device == "cpu" else {"device_map": device}
    model = automatic.from_pretrained(path, dtype="auto", **placement).eval()
    loaded_s = time.perf_counter()
    prompt = torch.tensor([PROMPT], device=device)
    output = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=1
    )
    token = int(output[0, -1])
    return {
        "from_pretrained": loaded_s - began_s,
        "first token": time.perf_counter() - loaded_s,
    }, token


if __name__ == "__main__":
    main()
