"""Queues of loads: a load's turn comes when every load ahead of it has left."""

import pytest

from sllmcore.errors import ControlError
from sllmcore.load_turns import LoadTurns


def queue(*pairs: tuple[str, str | None]) -> LoadTurns:
    turns = LoadTurns()
    for instance_id, after in pairs:
        turns.join(instance_id, after)
    return turns


def test_a_load_behind_nothing_has_its_turn_at_once() -> None:
    turns = LoadTurns()

    assert turns.join("a", None)
    assert turns.join("b", "gone")
    assert turns.has_come("a") and turns.has_come("b")


def test_turns_come_in_the_order_of_after() -> None:
    turns = queue(("a", None), ("b", "a"), ("c", "b"))

    assert not turns.has_come("b")
    assert turns.leave("a") == ["b"]
    assert turns.has_come("b") and not turns.has_come("c")
    assert turns.leave("b") == ["c"]


def test_all_loads_behind_the_same_one_have_their_turn_together() -> None:
    turns = queue(("a", None), ("b", "a"), ("c", "a"))

    assert turns.leave("a") == ["b", "c"]


def test_loads_behind_a_cancelled_load_follow_the_one_ahead_of_it() -> None:
    turns = queue(("a", None), ("b", "a"), ("c", "b"), ("d", "b"))

    assert turns.leave("b") == []
    assert turns.leave("a") == ["c", "d"]


def test_a_load_may_leave_twice() -> None:
    turns = queue(("a", None), ("b", "a"))
    turns.leave("a")

    assert turns.leave("a") == []
    assert turns.has_come("b")


def test_a_load_is_queued_once() -> None:
    turns = queue(("a", None))

    with pytest.raises(ControlError, match="a is queued for its transfer already"):
        turns.join("a", None)
