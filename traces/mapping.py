"""Functions to models: the two meanings of "round robin" in the literature.

stripe   function i goes to models[i % M]       (the AlpaServe paper; true round robin)
blocks   function i goes to models[M * i // F]  (AlpaServe's code, Clockwork, HydraServe)
"""

from collections.abc import Sequence
from typing import Literal, assert_never

from traces.errors import TraceError

Mapping = Literal["stripe", "blocks", "popularity"]
FunctionMapping = Literal["stripe", "blocks"]


def stripe(function: int, num_models: int) -> int:
    """Model index of a function; needs no total, so it works while a trace is read."""
    return function % num_models


def blocks(function: int, num_models: int, num_functions: int) -> int:
    """Model index of a function among `num_functions`."""
    return num_models * function // num_functions


def model_of_function(
    functions: Sequence[str], models: Sequence[str], mapping: FunctionMapping
) -> dict[str, str]:
    """Model by function name; functions are numbered in the order given."""
    if not models:
        raise TraceError("no models to map functions to")
    match mapping:
        case "stripe":
            places = [stripe(i, len(models)) for i in range(len(functions))]
        case "blocks":
            places = [blocks(i, len(models), len(functions)) for i in range(len(functions))]
        case _:
            assert_never(mapping)
    return {name: models[place] for name, place in zip(functions, places, strict=True)}
