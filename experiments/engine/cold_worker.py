"""One cold start: `python -m experiments.engine.cold_worker HOW PATH DEVICE`, a process of its own.

Prints one JSON line, at the first token: its phases in seconds, and the token.
"""

import json
import sys
import time
from typing import Any

PROMPT = tuple(range(3, 19))


def main() -> None:
    """Start with `ours` or `transformers`."""
    how, path, device = sys.argv[1:]
    began_s = time.perf_counter()
    phases, token = {"ours": _ours, "transformers": _transformers}[how](path, device)
    inside_s = time.perf_counter() - began_s
    print(json.dumps({"phases": phases, "inside_s": inside_s, "token": token}), flush=True)


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


def _transformers(path: str, device: str) -> tuple[dict[str, float], int]:
    began_s = time.perf_counter()
    import torch

    torch_s = time.perf_counter()
    from transformers import AutoModelForCausalLM

    imported_s = time.perf_counter()
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
        "import torch": torch_s - began_s,
        "import transformers": imported_s - torch_s,
        "from_pretrained": loaded_s - imported_s,
        "first token": time.perf_counter() - loaded_s,
    }, token


if __name__ == "__main__":
    main()
