"""The cluster, the kills and the requests of a kill campaign: with timed engines or with vLLM."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from experiments.campaigns.cluster import migrating_policy
from experiments.campaigns.cluster.testbed import ClusterOptions, ClusterTestbed, expected_tokens
from sllmreal.gateway.backend import GenerationRequest

_KNOWN_PROMPTS = 16  # per model
_KNOWN_TOKENS = 300  # per prompt; each request asks for a part of them
_VOCABULARY = 1000
_FIRST_ANSWER_S = 300.0
_GPU_ROOM = 1.3  # chunks of a pool are not all full
_SMALLEST_GPU_GB = 0.1


class KillRequests(Protocol):
    """The requests of the clients, with the tokens of an undisturbed run."""

    async def prepare(self, testbed: ClusterTestbed) -> None:
        """Learn what is expected, before the first kill."""
        ...

    def drawn(self, rng: random.Random, request_id: str, model: str) -> GenerationRequest:
        """Return a random request."""
        ...

    def expected(self, request: GenerationRequest) -> tuple[int, ...]:
        """Return the tokens that an undisturbed engine generates."""
        ...


class TimedRequests:
    """Requests for timed engines, whose tokens can be computed in advance."""

    async def prepare(self, testbed: ClusterTestbed) -> None:
        """Do nothing."""

    def drawn(self, rng: random.Random, request_id: str, model: str) -> GenerationRequest:
        prompt = tuple(rng.randrange(_VOCABULARY) for _ in range(rng.randint(1, 50)))
        return GenerationRequest(request_id, model, "", prompt, rng.randint(1, 200))

    def expected(self, request: GenerationRequest) -> tuple[int, ...]:
        return expected_tokens(request)


@dataclass(slots=True)
class KnownRequests:
    """Requests for real models: greedy, with prompts that were answered once without a kill.

    One prompt at a time is answered, so that no request migrates meanwhile.
    """

    answers: dict[tuple[str, tuple[int, ...]], tuple[int, ...]] = field(default_factory=dict)
    prompts: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)

    async def prepare(self, testbed: ClusterTestbed) -> None:
        rng = random.Random(0)
        for model in testbed.models:
            self.prompts[model] = []
            for number in range(_KNOWN_PROMPTS):
                prompt = tuple(rng.randrange(_VOCABULARY) for _ in range(rng.randint(1, 50)))
                request = GenerationRequest(
                    f"known-{model}-{number}", model, "", prompt, _KNOWN_TOKENS
                )
                tokens: list[int] = []
                async with asyncio.timeout(_FIRST_ANSWER_S):
                    async for generated in testbed.router.submit(request):
                        tokens += generated.tokens
                self.prompts[model].append(prompt)
                self.answers[model, prompt] = tuple(tokens)

    def drawn(self, rng: random.Random, request_id: str, model: str) -> GenerationRequest:
        prompt = rng.choice(self.prompts[model])
        return GenerationRequest(request_id, model, "", prompt, rng.randint(1, _KNOWN_TOKENS))

    def expected(self, request: GenerationRequest) -> tuple[int, ...]:
        return self.answers[request.model, request.prompt][: request.max_output_tokens]


@dataclass(frozen=True, slots=True)
class KillPlan:
    """The kind of a campaign.

    Attributes:
        kinds: Kinds of processes; each kill draws one of them.
        pause_s: The shortest and the longest time between two kills.
        answers: Requests that must be answered between two kills, unless that takes 30 s: engines
            that start slowly would be killed before they ever run.
        answer_s: A request fails if it takes longer.
    """

    requests: KillRequests
    cluster: ClusterOptions
    kinds: tuple[str, ...]
    pause_s: tuple[float, float]
    answer_s: float
    answers: int = 0


def timed_plan() -> KillPlan:
    """Return a plan with timed engines; half of the kills hit a leader or standby."""
    kinds = ("leader", "leader", "worker", "engine")
    return KillPlan(TimedRequests(), ClusterOptions(), kinds, (0.2, 2.5), 60.0)


def vllm_plan(directory: Path, source: Path | None) -> KillPlan:
    """Return a plan with three vLLM models in float32 on two servers with two GPUs each.

    Args:
        directory: Small models are written here, unless there is a `source`.
        source: The directory of a model to deploy three times.
    """
    from sllmreal.cli.deploy import Choices, described
    from sllmreal.engine.samples import write_sample

    choices = Choices(
        num_slots=2, needs_tokenizer=False, engine="vllm", settings={"dtype": "float32"}
    )
    models = []
    for number in range(3):
        folder = source or write_sample(directory / f"m{number}", "llama-mini", seed=number)
        models.append(described(folder, f"m{number}", time.time(), choices))
    gpu_gb = max(_SMALLEST_GPU_GB, _GPU_ROOM * models[0].size_bytes / 1e9)
    worker = ("--gpus", "2", "--gpu-memory-gb", f"{gpu_gb:.3f}", "--dram-gb", f"{3 * gpu_gb:.3f}")
    # Kills hit instances that start, too; a request is to survive any number of failed loads.
    policy = ("--policy", migrating_policy.REFERENCE, "--set", "controller.max_load_failures=1000")
    cluster = ClusterOptions((worker, worker), tuple(models), leader=policy)
    kinds = (*["engine"] * 10, "worker", "leader")
    return KillPlan(KnownRequests(), cluster, kinds, (1.0, 4.0), 240.0, answers=3)
