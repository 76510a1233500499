"""vLLM as a registered kind of engine. Needs no vLLM: it runs in an environment of its own."""

import os
import subprocess

import msgspec

from sllmcore.errors import UsageError
from sllmreal.checkpoint.assets import asset_directory
from sllmreal.engine.kind import DeployedDirectory, EngineKind, EngineModel, Interpreter
from sllmreal.engine.protocol import Engine
from sllmreal.engine.vllm.check_messages import CheckAnswer, CheckQuestion
from sllmreal.engine.vllm.interpreter import vllm_environment, vllm_python
from sllmreal.engine.vllm.settings import VllmSettings

_CHECK_S = 120.0  # vLLM's imports take 4 to 15 s


def _interpreter() -> Interpreter:
    python = vllm_python()
    return Interpreter(str(python), vllm_environment(python))


def _check_model(model: DeployedDirectory, settings: VllmSettings) -> None:
    """Have vLLM, in its own Python, make its configuration for the model."""
    ranks = _num_ranks(settings, model.num_gpus, str(model.directory))
    named = model.config.get("architectures")
    question = CheckQuestion(
        directory=str(asset_directory(model.directory)),
        architectures=[str(one) for one in named] if isinstance(named, list) else [],
        settings=settings,
        num_ranks=ranks,
        num_slots=model.num_slots,
        context_tokens=model.context_tokens,
    )
    answer = _answer(question)
    if answer.refusal is not None:
        raise UsageError(f"{model.directory}: {answer.refusal}")


def _answer(question: CheckQuestion) -> CheckAnswer:
    interpreter = _interpreter()
    encoded = msgspec.json.encode(question).decode()
    command = [interpreter.python, "-m", "sllmreal.engine.vllm.check", encoded]
    environment = {**os.environ, **interpreter.environment}
    try:
        done = subprocess.run(  # noqa: S603 - vLLM's Python, which the operator chose
            command, capture_output=True, text=True, env=environment, timeout=_CHECK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"vLLM's Python {interpreter.python} cannot be asked: {error}") from error
    lines = done.stdout.strip().splitlines()
    try:
        return msgspec.json.decode(lines[-1] if lines else "", type=CheckAnswer)
    except msgspec.DecodeError:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(
            f"vLLM's Python {interpreter.python} gave no answer, exit code {done.returncode}: "
            f"{reason}"
        ) from None


def _num_ranks(settings: VllmSettings, num_gpus: int, where: str) -> int:
    """Return the tensor-parallel ranks: one per GPU. Raises UsageError for another number."""
    ranks = settings.tensor_parallel_size or num_gpus
    if ranks != num_gpus:
        raise UsageError(
            f"{where}: tensor_parallel_size is {ranks}, the number of GPUs is {num_gpus}: "
            f"deploy with --gpus {ranks}, or leave tensor_parallel_size out"
        )
    return ranks


def _prepare() -> None:
    import sllmreal.engine.vllm.build  # noqa: F401


def _warm_up() -> None:
    from sllmreal.engine.vllm.build import warm_up

    warm_up()


def _make(model: EngineModel, settings: VllmSettings) -> Engine:
    from sllmreal.engine.vllm.build import VllmModel, vllm_engine

    if model.weights is None:
        raise UsageError(f"{model.name}: this engine needs weights")
    engine, _ = vllm_engine(
        VllmModel(
            directory=model.weights.directory,
            num_slots=model.num_slots,
            context_tokens=model.context_tokens,
            settings=settings,
            num_ranks=_num_ranks(settings, model.num_gpus, model.name),
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
