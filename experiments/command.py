"""What all Hydra commands share: composing, the output folder, exit codes, one line per mistake.

Exit codes: 0 done, 1 it failed, 2 the caller's mistake (a config, a file), 130 interrupted.
Hydra itself leaves nothing behind: no working directory, no log, no `.hydra`; the sweep of `-m`
writes `multirun.yaml` beside its jobs' folders.
"""

import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments.composing import CONFIGS, HYDRA_VERSION, plain_data
from sllmcore.errors import UsageError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

Task = Callable[[dict[str, Any], Path], int]


def run_command(config_name: str, task: Task) -> int:
    """Compose a config from the command line, hand it to a task, return the exit code.

    Args:
        config_name: The root config in `configs/`.
        task: Gets the composed config as plain data and the output folder; returns an exit code.
            With `-m` it is called once per job.
    """
    codes = [OK]

    def job(config: DictConfig) -> None:
        codes.append(exit_code(lambda: task(*_plain(config))))

    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets errors through, to be told in one line here
    main = hydra.main(
        version_base=HYDRA_VERSION, config_path=str(CONFIGS), config_name=config_name
    )(job)
    codes.append(exit_code(lambda: main() or OK))
    return max(codes)


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
    except Exception:
        traceback.print_exc()
        return FAILED


def task_overrides() -> list[str]:
    """What the command line of the running job overrides, in Hydra's words."""
    return list(HydraConfig.get().overrides.task)


def _plain(config: DictConfig) -> tuple[dict[str, Any], Path]:
    plain = plain_data(config)
    folder = Path(str(plain.pop("out")))
    running = HydraConfig.get()
    if running.mode is RunMode.MULTIRUN:
        folder /= str(running.job.num)
    return plain, folder


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
