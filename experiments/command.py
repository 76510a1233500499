"""The common part of the Hydra commands: config, output folder, exit codes, one-line errors.

Exit codes: 0 done, 1 failed, 2 a mistake of the caller (config or file), 130 interrupted.
Hydra writes no files of its own (working directory, log, `.hydra`), except `multirun.yaml` beside
the folders of the runs of `-m`.
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
    """A single execution of a command; `-m` has one per combination.

    Args:
        plain: The composed config as plain data, without `out`.
        folder: Folder for the results.
        overrides: The overrides of the command line.
    """

    plain: dict[str, Any]
    folder: Path
    overrides: tuple[str, ...]


Task = Callable[[Invocation], int]


def run_command(root: str, task: Task) -> int:
    """Compose a config from the command line, run a task on it, and return the exit code.

    Args:
        root: The root config in `configs/`.
        task: Returns an exit code. With `-m` it is called for each combination.
    """
    words = sys.argv[1:]
    PLUGINS.allow(references_in(words))
    if any(word.startswith("-") for word in words):  # -m, --help, --cfg and the like
        return _run_by_hydra(root, task)
    # hydra.main would compose the config twice, the first time only to look for -m.
    return exit_code(lambda: task(_invocation(composed(root, words), words)))


def exit_code(action: Callable[[], int]) -> int:
    """Return the exit code of an action, and report its exception on stderr."""
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
    except Exception:  # the top of the program: a bug is shown with its traceback
        traceback.print_exc()
        return FAILED


def _run_by_hydra(root: str, task: Task) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    codes = [OK]

    def once(config: "DictConfig") -> None:
        running = HydraConfig.get()
        one = _invocation(plain_data(config), running.overrides.task)
        if running.mode is RunMode.MULTIRUN:
            one = Invocation(one.plain, one.folder / str(running.job.num), one.overrides)
        codes.append(exit_code(lambda: task(one)))

    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions pass through Hydra to `exit_code`
    main = hydra.main(str(CONFIGS), root, version_base=HYDRA_VERSION)(once)
    codes.append(exit_code(lambda: main() or OK))
    return max(codes)


def _invocation(plain: dict[str, Any], overrides: Sequence[str]) -> Invocation:
    folder = Path(str(plain.pop("out")))
    return Invocation(plain, folder, tuple(overrides))


def _complain(problem: str, code: int) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return code


def _one_line(error: Exception) -> str:
    """Return an error of Hydra as a line; its messages have up to 30, mostly the search path."""
    causes = [error]
    while isinstance(causes[-1].__cause__, Exception):
        causes.append(causes[-1].__cause__)
    text = "\n".join(str(cause) for cause in causes)
    text = text.partition("Config search path:")[0]
    text = re.sub(r"^\s*(object_type|reference_type|full_key)=?:?.*$", "", text, flags=re.M)
    lines = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
    return re.sub(r": ;|; (?=Available)", "; ", "; ".join(lines)).replace("':;", "':")
