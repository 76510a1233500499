"""Five kills of random processes; `python -m experiments.campaigns.cluster.kills` does hundreds."""

import asyncio
import tempfile
from pathlib import Path

from experiments.campaigns.cluster.kills import run


def test_no_token_is_lost_when_leaders_workers_and_engines_are_killed() -> None:
    with tempfile.TemporaryDirectory() as directory:  # short: sockets lie in it
        results = asyncio.run(run(5, seed=3, store="sqlite", directory=Path(directory), clients=4))

    assert not results.failures
    assert results.num_answered > 0
    assert sum(results.kills.values()) == 5
