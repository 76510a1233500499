"""Ask vLLM about a model, in vLLM's Python: `python -m sllmreal.engine.vllm.check QUESTION`.

QUESTION is an encoded `CheckQuestion`. The last line of the output is an encoded `CheckAnswer`.
Builds vLLM's configuration as for an instance, but reads no weights.
"""

import sys

import msgspec

from sllmcore.errors import UsageError
from sllmreal.engine.vllm.check_messages import CheckAnswer, CheckQuestion


def refusal(question: CheckQuestion) -> str | None:
    """Return why vLLM cannot serve a model, or None if it can."""
    from vllm import __version__
    from vllm.model_executor.models import ModelRegistry

    from sllmreal.engine.vllm import VLLM_VERSION

    if __version__.split("+")[0] != VLLM_VERSION:
        return f"vLLM {__version__} is installed, {VLLM_VERSION} is needed"
    if set(ModelRegistry.get_supported_archs()).isdisjoint(question.architectures):
        return f"vLLM has no implementation of the architectures {question.architectures}"
    from sllmreal.engine.vllm.build import VllmModel, checked_config

    model = VllmModel(
        directory=question.directory,
        num_slots=question.num_slots,
        context_tokens=question.context_tokens,
        settings=question.settings,
        num_ranks=question.num_ranks,
    )
    try:
        checked_config(model)
    except UsageError as error:
        return str(error)
    return None


def main(arguments: list[str]) -> int:
    """Answer the question; return the exit code, 0."""
    answer = CheckAnswer(refusal(msgspec.json.decode(arguments[0], type=CheckQuestion)))
    sys.stdout.write("\n" + msgspec.json.encode(answer).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
