"""Golden runs give the recorded bytes, on any Python and with any PYTHONHASHSEED."""

from pathlib import Path

import pytest

from tests.golden.runs import RUNS, committed, digests_of


@pytest.mark.parametrize("name", RUNS)
def test_a_run_gives_the_recorded_bytes(name: str, tmp_path: Path) -> None:
    digests = digests_of(name, tmp_path / name)

    recorded = committed()[name]
    shared = digests.keys() & recorded.keys()  # another pyarrow writes other files
    assert {"journal", "requests_values"} <= shared
    assert {key: digests[key] for key in shared} == {key: recorded[key] for key in shared}
