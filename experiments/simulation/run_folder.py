"""A folder that appears whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sllmcore.errors import UsageError


def check_free(folder: Path) -> None:
    """Refuse a folder that holds something already.

    Raises:
        UsageError: It is a file, or a folder that is not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"out: {folder} is a file")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"out: {folder} holds files already; give another folder or remove it")


@contextmanager
def published_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into, which takes its name when the block ends; if that
    ends in an error, it goes, and so do the parents made for it."""
    check_free(folder)
    folder = folder.absolute()
    parents = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp gives 0700
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in parents:
            with suppress(OSError):  # another run may have put something there
                parent.rmdir()
        raise
