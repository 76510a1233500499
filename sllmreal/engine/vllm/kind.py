"""vLLM as a registered kind of engine. Needs no vLLM: it runs in an environment of its own."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sllmcore.errors import UsageError
from sllmreal.engine.kind import EngineKind, EngineModel, Interpreter
from sllmreal.engine.protocol import Engine
from sllmreal.engine.vllm.interpreter import vllm_environment, vllm_python
from sllmreal.engine.vllm.settings import VllmSettings

_CHECK_S = 120.0  # vLLM's imports take 4 to 15 s


def _interpreter() -> Interpreter:
    python = vllm_python()
    return Interpreter(str(python), vllm_environment(python))


def _check_model(directory: Path, config: Mapping[str, object]) -> None:
    """Ask vLLM, in its own Python, whether it has an implementation of the architecture."""
    interpreter = _interpreter()
    architectures = config.get("architectures")
    command = [interpreter.python, "-m", "sllmreal.engine.vllm.check", json.dumps(architectures)]
    environment = {**os.environ, **interpreter.environment}
    try:
        done = subprocess.run(  # noqa: S603 - vLLM's Python, which the operator chose
            command, capture_output=True, text=True, env=environment, timeout=_CHECK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"vLLM's Python {interpreter.python} cannot be asked: {error}") from error
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise UsageError(f"{directory}: vLLM refuses it: {reason}")


def _prepare() -> None:
    import sllmreal.engine.vllm.build  # noqa: F401


def _warm_up() -> None:
    from sllmreal.engine.vllm.build import warm_up

    warm_up()


def _make(model: EngineModel, settings: VllmSettings) -> Engine:
    from sllmreal.engine.vllm.build import VllmModel, vllm_engine

    if model.weights is None:
        raise UsageError(f"{model.name}: this engine needs weights")
    ranks = settings.tensor_parallel_size or model.num_gpus
    if ranks != model.num_gpus:
        raise UsageError(
            f"{model.name}: tensor_parallel_size {ranks} differs from its {model.num_gpus} GPUs"
        )
    engine, _ = vllm_engine(
        VllmModel(
            directory=model.weights.directory,
            num_slots=model.num_slots,
            context_tokens=model.context_tokens,
            settings=settings,
            num_ranks=ranks,
            weights=model.weights,
        )
    )
    return engine


VLLM = EngineKind(
    VllmSettings,
    _make,
    check_model=_check_model,
    prepare=_prepare,
    warm_up=_warm_up,
    interpreter=_interpreter,
)
