"""Question and answer between a deployment and vLLM's Python. Needs no vLLM."""

from dataclasses import dataclass

from sllmreal.engine.vllm.settings import VllmSettings


@dataclass(frozen=True, slots=True)
class CheckQuestion:
    """A model as an instance of it would be made.

    Args:
        directory: The directory of config.json.
        architectures: The architectures that config.json names.
        context_tokens: None: what config.json allows.
    """

    directory: str
    architectures: list[str]
    settings: VllmSettings
    num_ranks: int
    num_slots: int
    context_tokens: int | None


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """The reason why vLLM refuses the model; None: it accepts the model."""

    refusal: str | None
