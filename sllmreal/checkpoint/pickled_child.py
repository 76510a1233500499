"""The child process that reads a PyTorch file's pickle and describes its tensors on stdout.

The file is mapped, so a storage's address gives its offset in the file. Run by `pickled.py` only.
"""

import resource
import sys
from pathlib import Path

import msgspec
import torch

from sllmreal.checkpoint.dtypes import dtype_name
from sllmreal.checkpoint.pickled import PickledTensor

_CPU_LIMIT_S = 600


def main(argv: list[str]) -> int:
    """Describe the state dict in the file argv[0]; return 1 and print the reason if it is none."""
    _confine()
    path = Path(argv[0])
    try:
        state_dict = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        described = _describe(state_dict, path)
    except (
        Exception
    ) as error:  # a hostile pickle may raise anything; this is the top of the process
        sys.stderr.write(f"{type(error).__name__}: {str(error)[:500].splitlines()[:1]}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(described))
    return 0


def _confine() -> None:
    """Forbid this process to write files, dump core, or use CPU time without bound."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT_S, _CPU_LIMIT_S))


def _describe(state_dict: object, path: Path) -> list[PickledTensor]:
    if isinstance(state_dict, dict) and isinstance(state_dict.get("state_dict"), dict):
        state_dict = state_dict["state_dict"]
    if not isinstance(state_dict, dict):
        raise TypeError(f"a state dict must be a dict, got {type(state_dict).__name__}")
    mapped = _mapped_ranges(path)
    described = []
    for name, tensor in state_dict.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise TypeError(
                f"a state dict must map names to tensors, {name!r} is a {type(tensor).__name__}"
            )
        storage = tensor.untyped_storage()
        described.append(
            PickledTensor(
                name=name,
                dtype=dtype_name(tensor.dtype),
                shape=tuple(tensor.shape),
                stride=tuple(tensor.stride()),
                storage_begin=_file_offset(storage, mapped),
                storage_bytes=storage.nbytes(),
                view_offset=int(tensor.storage_offset()) * tensor.element_size(),
            )
        )
    return described


def _file_offset(storage: torch.UntypedStorage, mapped: list[tuple[int, int, int]]) -> int:
    if storage.nbytes() == 0:
        return 0
    address = storage.data_ptr()
    for begin, end, offset in mapped:
        if begin <= address and address + storage.nbytes() <= end:
            return address - begin + offset
    raise ValueError("a storage is not mapped from the file")


def _mapped_ranges(path: Path) -> list[tuple[int, int, int]]:
    """Return (begin, end, file offset) of every mapping of `path` in this process."""
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == str(path):
            begin, end = (int(number, 16) for number in fields[0].split("-"))
            ranges.append((begin, end, int(fields[2], 16)))
    return ranges


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
