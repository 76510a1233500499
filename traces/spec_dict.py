"""A `WorkloadSpec` out of plain data, with misspelt fields refused.

`msgspec.convert` on its own passes over a key it does not know, and the default would silently
stand in its place.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from traces.errors import TraceError
from traces.popularity import Popularity
from traces.spec import WorkloadSpec


def spec_from_dict(values: Mapping[str, Any], *, from_text: bool = False) -> WorkloadSpec:
    """The spec. Raises TraceError naming the field that is wrong.

    Args:
        values: As YAML or JSON gives them; `popularity` is a mapping again.
        from_text: Whether numbers may come as text, as on a command line.
    """
    _check_names(values, WorkloadSpec, "")
    popularity = values.get("popularity")
    if isinstance(popularity, Mapping):
        _check_names(popularity, Popularity, "popularity.")
    try:
        return msgspec.convert(dict(values), WorkloadSpec, strict=not from_text)
    except msgspec.ValidationError as error:
        raise TraceError(f"workload: {error}") from error


def _check_names(
    values: Mapping[str, Any], into: type[WorkloadSpec] | type[Popularity], prefix: str
) -> None:
    known = [field.name for field in fields(into)]
    for name in values:
        if name not in known:
            raise TraceError(
                f"workload: no field {prefix}{name}; there are {', '.join(sorted(known))}"
            )
