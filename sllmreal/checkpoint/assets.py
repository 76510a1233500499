"""The small files that belong to a model: configuration, tokenizer, adapter configuration."""

import hashlib
import re
from pathlib import Path

from sllmreal.checkpoint.errors import CorruptCheckpointError
from sllmreal.checkpoint.index import ASSET_DIRECTORY, MAX_ASSET_BYTES
from sllmreal.checkpoint.layout import Asset, Layout
from sllmreal.checkpoint.opening import opened_directory, opened_file, read_exactly
from sllmreal.checkpoint.staging import fsync_directory, write_durably

_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def asset_files(directory: Path) -> list[Path]:
    """Return the asset files beside a model's weights: no code, no shard index."""
    return sorted(
        file
        for file in directory.iterdir()
        if file.suffix in _SUFFIXES
        and _NAME.fullmatch(file.name)
        and not file.name.endswith(".index.json")
        and file.is_file()
        and file.stat().st_size <= MAX_ASSET_BYTES
    )


def asset_directory(source: Path) -> Path:
    """Return the directory of a model's assets: in our format `assets/`, else the weights' own."""
    inside = source / ASSET_DIRECTORY
    return inside if inside.is_dir() else source


def copy_assets(files: list[Path], staging: Path) -> tuple[Asset, ...]:
    """Copy `files` durably into the staging directory."""
    if not files:
        return ()
    target = staging / ASSET_DIRECTORY
    target.mkdir(exist_ok=True)
    assets = []
    for file in files:
        content = file.read_bytes()
        write_durably(target / file.name, content)
        assets.append(Asset(file.name, len(content), hashlib.sha256(content).hexdigest()))
    fsync_directory(target)
    return tuple(assets)


def read_asset(layout: Layout, name: str) -> bytes | None:
    """Read and verify the asset `name` of one of our checkpoints; None if there is none.

    Raises CorruptCheckpointError when the content differs from its SHA-256.
    """
    for asset in layout.assets:
        if asset.file == name:
            with (
                opened_directory(layout.path / ASSET_DIRECTORY) as dir_fd,
                opened_file(name, dir_fd=dir_fd) as file,
            ):
                content = read_exactly(file, min(file.size_bytes, asset.size_bytes + 1), 0, name)
            if hashlib.sha256(content).hexdigest() != asset.sha256:
                raise CorruptCheckpointError(f"asset {name} differs from its SHA-256")
            return content
    return None
