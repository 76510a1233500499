"""No body breaks the gateway or delays other requests.

`python -m experiments.campaigns.gateway.fuzz` is the long campaign.
"""

import asyncio
import json
import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.campaigns.gateway.clients import OPEN, with_limits
from experiments.campaigns.gateway.fakes import FakeBackend, answering
from experiments.campaigns.gateway.fuzz import (
    MAX_TURN_S,
    TurnMeter,
    campaign,
    problem_of,
    response,
)
from experiments.campaigns.gateway.hostile import Body, BodyMaker, costly_bodies
from sllmreal.gateway.app import create_app

SMALL = 1 << 16
BACKEND = FakeBackend(answering("Hello world"))
APP = create_app(BACKEND, with_limits(requests_per_s=1e9, burst=10**9))


@given(st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_every_body_is_answered_without_a_5xx(random: Random) -> None:
    """Fails if a stop string may be empty: the gateway raises IndexError."""
    body = BodyMaker(random).body()

    status, content = asyncio.run(response(APP, body))

    assert problem_of(status, content) is None, body
    assert not BACKEND.running


@pytest.mark.asyncio
async def test_a_short_campaign_finds_no_problem_and_reaches_every_check() -> None:
    """Fails if `unserved` fields are compared by hash: a list as `echo` raises TypeError."""
    findings = await campaign(300, seed=3, max_bytes=SMALL)

    assert findings.problems == []
    assert findings.statuses[200] > 20
    assert findings.statuses[400] > 100
    assert findings.statuses[404] > 10


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("name", list(costly_bodies(1 << 20)))
async def test_no_body_within_the_limits_blocks_the_event_loop(name: str) -> None:
    """Fails without the limit of brackets, and if long texts are tokenized in the event loop.

    The best of three runs counts, because a thread that tokenizes may delay the loop.
    """
    app, body = create_app(FakeBackend(), OPEN), costly_bodies(OPEN.limits.body_bytes)[name]
    longest = []
    for _ in range(3):
        async with TurnMeter() as turns:
            await response(app, body)
        longest.append(turns.longest_s)

    assert min(longest) < MAX_TURN_S


@pytest.mark.parametrize("turn_s", [0.0, 0.3])
@pytest.mark.asyncio
async def test_a_long_turn_of_the_event_loop_is_measured(turn_s: float) -> None:
    """Test the meter itself with a turn that computes."""
    async with TurnMeter() as turns:
        for _ in range(50):
            await asyncio.sleep(0.001)
        computed_until_s = time.process_time() + turn_s
        while time.process_time() < computed_until_s:
            pass
        await asyncio.sleep(0)

    assert (turns.longest_s > 0.04) == (turn_s > 0)


def test_problems_of_responses_are_found() -> None:
    assert problem_of(500, b"{}") == "status 500"
    assert problem_of(200, b"<html>") == "no JSON"
    assert problem_of(200, b"data: {}\n\n") == "no end"
    assert problem_of(400, json.dumps({"error": {"message": ""}}).encode()) == "no message"


def test_the_same_seed_makes_the_same_bodies() -> None:
    first, second = ([BodyMaker(Random(seed)).body() for _ in range(3)] for seed in (5, 5))

    assert first == second
    assert isinstance(first[0], Body)
