"""The JSON files that ship with the package."""

import json
from importlib import resources
from typing import Any


def load_json(file_name: str) -> Any:
    """A file of `traces/data`, parsed."""
    return json.loads(resources.files("traces").joinpath("data", file_name).read_text("utf-8"))
