"""`sllm deploy` and `sllm delete`: what a model directory has to have, and telling the leader."""

import argparse
import asyncio
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sllmcore.errors import UsageError
from sllmreal.checkpoint.assets import asset_directory
from sllmreal.checkpoint.convert import WriteOptions, convert
from sllmreal.checkpoint.source import read_layout
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import Home, opened_home
from sllmreal.control.messages import DeleteModel, DeployModel
from sllmreal.control.operator import ask

_CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length")
_FREE_SHARE = 1.05  # of a checkpoint's bytes, for a conversion


@dataclass(frozen=True, slots=True)
class Choices:
    """What a deployment says beyond the directory."""

    num_slots: int = 4
    num_gpus: int = 1
    context_tokens: int | None = None
    tenants: tuple[str, ...] | None = None
    needs_tokenizer: bool = True


def deploy_command(arguments: argparse.Namespace) -> int:
    """Deploy a model. Raises UsageError with the reason if it cannot be served."""
    source = Path(arguments.source).expanduser().absolute()
    choices = Choices(
        arguments.slots,
        arguments.gpus,
        arguments.context,
        None if arguments.tenant is None else tuple(arguments.tenant),
        needs_tokenizer=not arguments.no_tokenizer,
    )
    name = arguments.name or source.name
    if arguments.convert is not None:
        source = _converted(source, arguments.convert.expanduser().absolute())
    spec = described(source, name, time.time(), choices)
    asyncio.run(put(opened_home(arguments.home), spec))
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(spec).decode() + "\n")
    else:
        size = f"{spec.size_bytes} bytes, {spec.context_tokens} tokens of context"
        sys.stdout.write(f"{name}: {size}\n")
    return 0


def delete_command(arguments: argparse.Namespace) -> int:
    asyncio.run(ask(opened_home(arguments.home), DeleteModel(arguments.name)))
    sys.stdout.write(f"{arguments.name}: deleted; running requests finish\n")
    return 0


async def put(home: Home, spec: ModelDeployment) -> None:
    """Have the leader serve it. Raises UsageError when it will not."""
    await ask(home, DeployModel(spec))


def described(
    source: Path, name: str, now_s: float, choices: Choices | None = None
) -> ModelDeployment:
    """The model in a directory. Raises UsageError with what is missing there."""
    chosen = choices or Choices()
    config = _config(source)
    _check_architecture(source, config)
    if chosen.needs_tokenizer:
        _check_tokenizer(source)
    layout = read_layout(source)
    own_context = next(
        (config[one] for one in _CONTEXT_FIELDS if isinstance(config.get(one), int)), None
    )
    context_tokens = chosen.context_tokens or own_context
    if not isinstance(context_tokens, int):
        raise UsageError(f"{source}/config.json names no context length: give --context")
    if isinstance(own_context, int) and context_tokens > own_context:
        raise UsageError(
            f"--context {context_tokens} is beyond the model's own context of {own_context} "
            f"tokens, by {source}/config.json"
        )
    return ModelDeployment(
        name,
        str(source),
        sum(partition.size_bytes for partition in layout.partitions),
        context_tokens,
        now_s,
        num_gpus=chosen.num_gpus,
        num_slots=chosen.num_slots,
        tenants=chosen.tenants,
    )


def _config(source: Path) -> dict[str, object]:
    file = asset_directory(source) / "config.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, object])
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is no JSON object: {error}") from error


def _check_architecture(source: Path, config: dict[str, object]) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UsageError(
            f"{source}: model_type {json.dumps(kind)} is no causal language model that the "
            "installed transformers knows"
        )


def _check_tokenizer(source: Path) -> None:
    if not (asset_directory(source) / "tokenizer.json").is_file():
        raise UsageError(
            f"{source} has no tokenizer.json: add it, or deploy with --no-tokenizer to serve "
            "token ids only"
        )


def _converted(source: Path, target: Path) -> Path:
    size_bytes = read_layout(source).size_bytes
    target.parent.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(target.parent).free
    if free_bytes < _FREE_SHARE * size_bytes:
        raise UsageError(f"{target.parent} has {free_bytes} bytes free, {size_bytes} are needed")
    convert(source, target, WriteOptions(), _progress if sys.stderr.isatty() else None)
    return target


def _progress(done_bytes: int, total_bytes: int) -> None:
    sys.stderr.write(f"\rconverting: {done_bytes / max(1, total_bytes):4.0%}")
    if done_bytes == total_bytes:
        sys.stderr.write("\n")
