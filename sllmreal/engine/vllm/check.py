"""Ask vLLM about a model, in vLLM's Python: `python -m sllmreal.engine.vllm.check ARCHITECTURES`.

ARCHITECTURES is the JSON list of a config.json. Exit codes: 0 supported; 1 not, with a reason.
"""

import json
import sys


def main(arguments: list[str]) -> int:
    """Run the check; return its exit code."""
    from vllm import __version__
    from vllm.model_executor.models import ModelRegistry

    from sllmreal.engine.vllm import VLLM_VERSION

    architectures = json.loads(arguments[0]) or []
    if __version__.split("+")[0] != VLLM_VERSION:
        print(f"vLLM {__version__} is installed, {VLLM_VERSION} is needed", file=sys.stderr)
        return 1
    supported = set(ModelRegistry.get_supported_archs())
    if supported.isdisjoint(architectures):
        print(f"no implementation of the architectures {architectures}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
