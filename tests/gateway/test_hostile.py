"""No body breaks the gateway or keeps other requests waiting.

`python -m experiments.campaigns.gateway.fuzz` tries this at length.
"""

import asyncio
import json
import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.campaigns.gateway.clients import OPEN, with_limits
from experiments.campaigns.gateway.fakes import FakeBackend, says
from experiments.campaigns.gateway.fuzz import MAX_TURN_S, Turns, answered, campaign, judged
from experiments.campaigns.gateway.hostile import Body, Maker, monsters
from sllmreal.gateway.app import create_app

SMALL = 1 << 16
BACKEND = FakeBackend(says("Hello world"))
APP = create_app(BACKEND, with_limits(requests_per_s=1e9, burst=10**9))


@given(st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_any_body_gets_an_answer_and_no_5xx(random: Random) -> None:
    """Fails when a stop string may be empty: the gateway's own code raises IndexError."""
    body = Maker(random).body()

    status, content = asyncio.run(answered(APP, body))

    assert judged(status, content) is None, body
    assert not BACKEND.running


@pytest.mark.asyncio
async def test_a_campaign_finds_nothing_and_gets_deep() -> None:
    """Fails when `unserved` fields are compared by hash: a list as `echo` is a TypeError."""
    findings = await campaign(300, seed=3, most_bytes=SMALL)

    assert findings.wrong == []
    assert findings.statuses[200] > 20
    assert findings.statuses[400] > 100
    assert findings.statuses[404] > 10


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("name", list(monsters(1 << 20)))
async def test_no_permitted_body_holds_the_event_loop(name: str) -> None:
    """Fails without the bound on brackets, and when long texts are tokenized on the loop.

    The best of three: on a full machine the loop may be kept waiting while a thread tokenizes.
    """
    app, body = create_app(FakeBackend(), OPEN), monsters(OPEN.limits.body_bytes)[name]
    longest = []
    for _ in range(3):
        async with Turns() as turns:
            await answered(app, body)
        longest.append(turns.longest_s)

    assert min(longest) < MAX_TURN_S


@pytest.mark.parametrize("turn_s", [0.0, 0.3])
@pytest.mark.asyncio
async def test_a_long_turn_is_noticed(turn_s: float) -> None:
    """The measure itself: it sees a turn that computes."""
    async with Turns() as turns:
        for _ in range(50):
            await asyncio.sleep(0.001)
        computed_until_s = time.process_time() + turn_s
        while time.process_time() < computed_until_s:
            pass
        await asyncio.sleep(0)

    assert (turns.longest_s > 0.04) == (turn_s > 0)


def test_the_judge_is_not_blind() -> None:
    assert judged(500, b"{}") == "status 500"
    assert judged(200, b"<html>") == "no JSON"
    assert judged(200, b"data: {}\n\n") == "no end"
    assert judged(400, json.dumps({"error": {"message": ""}}).encode()) == "no message"


def test_what_is_made_is_reproducible() -> None:
    first, second = ([Maker(Random(seed)).body() for _ in range(3)] for seed in (5, 5))

    assert first == second
    assert isinstance(first[0], Body)
