"""A `WorkloadSpec` from plain data; misspelt fields are errors.

`msgspec.convert` alone ignores unknown keys, so a misspelt field would silently keep its default.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from traces.errors import TraceError
from traces.formats.table import Columns
from traces.popularity import Popularity
from traces.spec import WorkloadSpec


def spec_from_dict(values: Mapping[str, Any], *, from_text: bool = False) -> WorkloadSpec:
    """Return the spec of a mapping of field names to values.

    Args:
        values: Data as read from YAML or JSON; `popularity` is a mapping itself.
        from_text: Accept numbers as text, as on a command line.

    Raises:
        TraceError: A field is unknown, or has a wrong value.
    """
    _check_names(values, WorkloadSpec, "")
    for field, kind in (("popularity", Popularity), ("columns", Columns)):
        nested = values.get(field)
        if isinstance(nested, Mapping):
            _check_names(nested, kind, f"{field}.")
    try:
        return msgspec.convert(dict(values), WorkloadSpec, strict=not from_text)
    except msgspec.ValidationError as error:
        raise TraceError(f"workload: {error}") from error


def _check_names(
    values: Mapping[str, Any], into: type[WorkloadSpec | Popularity | Columns], prefix: str
) -> None:
    known = [field.name for field in fields(into)]
    for name in values:
        if name not in known:
            raise TraceError(
                f"workload: no field {prefix}{name}; there are {', '.join(sorted(known))}"
            )
