"""The JSON files of the package."""

import json
from importlib import resources
from typing import Any


def load_json(file_name: str) -> Any:
    """Return the content of a file of `traces/data`."""
    return json.loads(resources.files("traces").joinpath("data", file_name).read_text("utf-8"))
