"""What all Hydra commands share: composing, the output folder, exit codes, one line per mistake.

Exit codes: 0 done, 1 it failed, 2 the caller's mistake (a config, a file), 130 interrupted.
Hydra itself leaves nothing behind: no working directory, no log, no `.hydra`; the sweep of `-m`
writes `multirun.yaml` beside its jobs' folders.
"""

import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.composing import CONFIGS, HYDRA_VERSION, composed, plain_data
from sllmcore.errors import UsageError
from sllmcore.plugins import PLUGINS, references_in

if TYPE_CHECKING:
    from omegaconf import DictConfig

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a command is to do once.

    Args:
        plain: The composed config as plain data, `out` apart.
        folder: Where results go.
        overrides: What the command line says, in Hydra's words.
    """

    plain: dict[str, Any]
    folder: Path
    overrides: tuple[str, ...]


Task = Callable[[Invocation], int]


def run_command(root: str, task: Task) -> int:
    """Compose a config from the command line, hand it to a task, return the exit code.

    Args:
        root: The root config in `configs/`.
        task: Returns an exit code. With `-m` it is called once per job.
    """
    words = sys.argv[1:]
    PLUGINS.allow(references_in(words))
    if any(word.startswith("-") for word in words):  # -m, --help, --cfg and the like
        return _run_by_hydra(root, task)
    # Hydra's own way would compose everything twice, the first time to learn that there is no -m.
    return exit_code(lambda: task(_job(composed(root, words), words)))


def exit_code(action: Callable[[], int]) -> int:
    """Of an action; what it raises is reported on stderr."""
    try:
        return action()
    except UsageError as error:
        return _complain(str(error), USAGE)
    except (HydraException, OmegaConfBaseException) as error:
        return _complain(_one_line(error), USAGE)
    except OSError as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except Exception:  # the top of the program: a bug is shown whole
        traceback.print_exc()
        return FAILED


def _run_by_hydra(root: str, task: Task) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    codes = [OK]

    def once(config: "DictConfig") -> None:
        running = HydraConfig.get()
        job = _job(plain_data(config), running.overrides.task)
        if running.mode is RunMode.MULTIRUN:
            job = Invocation(job.plain, job.folder / str(running.job.num), job.overrides)
        codes.append(exit_code(lambda: task(job)))

    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets errors through, to be told in one line here
    main = hydra.main(str(CONFIGS), root, version_base=HYDRA_VERSION)(once)
    codes.append(exit_code(lambda: main() or OK))
    return max(codes)


def _job(plain: dict[str, Any], overrides: Sequence[str]) -> Invocation:
    folder = Path(str(plain.pop("out")))
    return Invocation(plain, folder, tuple(overrides))


def _complain(problem: str, code: int) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return code


def _one_line(error: Exception) -> str:
    """Hydra's own messages take up to 30 lines, most of them its search path."""
    causes = [error]
    while isinstance(causes[-1].__cause__, Exception):
        causes.append(causes[-1].__cause__)
    text = "\n".join(str(cause) for cause in causes)
    text = text.partition("Config search path:")[0]
    text = re.sub(r"^\s*(object_type|reference_type|full_key)=?:?.*$", "", text, flags=re.M)
    lines = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
    return re.sub(r": ;|; (?=Available)", "; ", "; ".join(lines)).replace("':;", "':")
