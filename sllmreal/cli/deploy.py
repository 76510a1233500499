"""`sllm deploy` and `sllm delete`: check a model's directory, and send the change to the leader."""

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sllmcore.errors import UsageError
from sllmcore.plugins import PLUGINS
from sllmcore.typed_settings import Setting, parsed_setting, settings_of, text_pairs
from sllmreal.checkpoint.assets import asset_directory
from sllmreal.checkpoint.convert import WriteOptions, convert
from sllmreal.checkpoint.source import read_layout
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import Home, opened_home
from sllmreal.control.messages import DeleteModel, DeployModel
from sllmreal.control.operator import ask
from sllmreal.engine.kind import DEFAULT_ENGINE, DeployedDirectory
from sllmreal.engine.registry import ENGINES

_CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length")
_FREE_SHARE = 1.05  # of a checkpoint's bytes, for a conversion


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of a deployment besides the model's directory.

    Args:
        settings: Settings of the engine.
    """

    num_slots: int = 4
    num_gpus: int = 1
    context_tokens: int | None = None
    tenants: tuple[str, ...] | None = None
    needs_tokenizer: bool = True
    engine: str = DEFAULT_ENGINE
    settings: Mapping[str, Setting] = field(default_factory=dict)


def deploy_command(arguments: argparse.Namespace) -> int:
    """Deploy a model. Raises UsageError for a directory that cannot be served."""
    source = Path(arguments.source).expanduser().absolute()
    PLUGINS.allow([arguments.engine])
    choices = Choices(
        arguments.slots,
        arguments.gpus,
        arguments.context,
        None if arguments.tenant is None else tuple(arguments.tenant),
        needs_tokenizer=not arguments.no_tokenizer,
        engine=arguments.engine,
        settings=_parsed_settings(arguments.engine, arguments.settings),
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
    """Delete a model. Raises UsageError if no model of that name is deployed."""
    asyncio.run(ask(opened_home(arguments.home), DeleteModel(arguments.name)))
    sys.stdout.write(f"{arguments.name}: deleted; running requests finish\n")
    return 0


async def put(home: Home, spec: ModelDeployment) -> None:
    """Ask the leader to serve a model. Raises UsageError when it refuses."""
    await ask(home, DeployModel(spec))


def described(
    source: Path, name: str, now_s: float, choices: Choices | None = None
) -> ModelDeployment:
    """Return the deployment of the model in a directory.

    Raises:
        UsageError: A file is missing or wrong, the engine cannot serve the model, or the engine or
            one of its settings is unknown.
    """
    chosen = choices or Choices()
    kind = ENGINES[chosen.engine]
    settings = settings_of(kind.settings, chosen.settings, f"engine {chosen.engine}")
    config = _config(source, required=kind.needs_weights)
    context_tokens = _context_tokens(source, config, chosen.context_tokens)
    size_bytes = _weight_bytes(source) if kind.needs_weights else 1
    if chosen.needs_tokenizer:
        _check_tokenizer(source)
    kind.check_model(
        DeployedDirectory(
            directory=source,
            config=config,
            num_gpus=chosen.num_gpus,
            num_slots=chosen.num_slots,
            context_tokens=context_tokens,
        ),
        settings,
    )
    return ModelDeployment(
        name=name,
        source=str(source),
        size_bytes=size_bytes,
        context_tokens=context_tokens,
        created_at_s=now_s,
        engine=chosen.engine,
        num_gpus=chosen.num_gpus,
        num_slots=chosen.num_slots,
        settings=chosen.settings,
        tenants=chosen.tenants,
    )


def _parsed_settings(engine: str, words: list[str]) -> dict[str, Setting]:
    where, kind = f"engine {engine}", ENGINES[engine].settings
    return {
        name: parsed_setting(kind, name, text, where) for name, text in text_pairs(words).items()
    }


def _weight_bytes(source: Path) -> int:
    return sum(partition.size_bytes for partition in read_layout(source).partitions)


def _context_tokens(source: Path, config: dict[str, object], chosen: int | None) -> int:
    own = next((config[one] for one in _CONTEXT_FIELDS if isinstance(config.get(one), int)), None)
    context_tokens = chosen or own
    if not isinstance(context_tokens, int):
        raise UsageError(f"{source}/config.json names no context length: give --context")
    if isinstance(own, int) and context_tokens > own:
        raise UsageError(
            f"--context {context_tokens} is beyond the model's own context of {own} tokens, by "
            f"{source}/config.json"
        )
    return context_tokens


def _config(source: Path, *, required: bool) -> dict[str, object]:
    file = asset_directory(source) / "config.json"
    if not required and not file.exists():
        return {}
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, object])
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is no JSON object: {error}") from error


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
