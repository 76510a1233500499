"""The folder of a run: the names of its files, and its atomic creation."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sllmcore.errors import UsageError

CONFIG, ENV, SUMMARY = "config.yaml", "env.json", "summary.json"
TRACE = "trace.json"  # of a workload that is read from files
REQUESTS, INSTANCES, JOURNAL = "requests.parquet", "instances.parquet", "journal.jsonl.zst"


def check_free(folder: Path) -> None:
    """Check that results can be written to `folder`.

    Raises:
        UsageError: `folder` is a file, or a folder that is not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"out: {folder} is a file; give the name of a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"out: {folder} holds files already; give another folder or remove it")


@contextmanager
def published_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, and rename it to `folder` when the block ends.

    If the block raises, the temporary folder and the parents that were made for it are removed.

    Raises:
        UsageError: `folder` is not free (`check_free`).
    """
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
