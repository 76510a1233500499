"""The mapping of functions to models: the two meanings of "round robin" in the literature.

stripe   function i goes to models[i % M]       (the AlpaServe paper; true round robin)
blocks   function i goes to models[M * i // F]  (AlpaServe's code, Clockwork, HydraServe)

Other mappings: `names`, rows go to the model that they name; `popularity`, models are drawn;
`auto`, names for traces that name models, stripe for traces of functions and clients, popularity
for rows without a name.
"""

from collections.abc import Sequence
from typing import Literal, assert_never

from traces.errors import TraceError

Mapping = Literal["auto", "names", "stripe", "blocks", "popularity"]
FunctionMapping = Literal["stripe", "blocks"]


def function_mapping(mapping: Mapping) -> FunctionMapping:
    """Return the mapping of functions to models that a choice stands for."""
    return "blocks" if mapping == "blocks" else "stripe"


def stripe(function: int, num_models: int) -> int:
    """Return the model index of a function; it does not depend on the number of functions."""
    return function % num_models


def blocks(function: int, num_models: int, num_functions: int) -> int:
    """Return the model index of a function among `num_functions`."""
    return num_models * function // num_functions


def model_of_function(
    functions: Sequence[str], models: Sequence[str], mapping: FunctionMapping
) -> dict[str, str]:
    """Return the model of each function; functions are numbered in the given order.

    Raises:
        TraceError: There are no models.
    """
    if not models:
        raise TraceError("there are no models to map functions to; deploy at least one")
    match mapping:
        case "stripe":
            places = [stripe(i, len(models)) for i in range(len(functions))]
        case "blocks":
            places = [blocks(i, len(models), len(functions)) for i in range(len(functions))]
        case _:
            assert_never(mapping)
    return {name: models[place] for name, place in zip(functions, places, strict=True)}
