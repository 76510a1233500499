"""Registries and the typed settings of their items."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from sllmcore.build import POLICIES, PolicySettings, build_controller, with_settings
from sllmcore.errors import ClusterError, UsageError
from sllmcore.plugins import PLUGINS, is_reference, references_in
from sllmcore.registry import Registry, UnknownNameError
from sllmcore.typed_settings import (
    Setting,
    parsed_setting,
    setting_names,
    settings_of,
    text_pairs,
)
from sllmreal.leader.code_version import code_stamp
from sllmreal.leader.peers import PeerTable
from sllmreal.leader.state import LeaderState
from sllmreal.leader.state_snapshot import pickled, unpickled
from sllmreal.store.registry import parsed_store


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Outer:
    name: str
    count: int = 0
    share: float | None = None
    fast: bool = False
    mode: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)
    table: dict[str, int] = field(default_factory=dict)  # cannot be set by name

    def __post_init__(self) -> None:
        if self.count < 0:
            raise UsageError(f"count must not be negative, got {self.count}")


class NoSource:
    """A source without anything."""

    def names(self, group: str) -> tuple[str, ...]:
        return ()

    def load(self, group: str, name: str) -> object | None:
        return None


def test_an_item_is_found_by_name_and_an_unknown_name_lists_the_known_ones() -> None:
    numbers = Registry(
        what="number", group="none", kind=int, built_in={"one": 1, "two": 2}, source=NoSource()
    )

    assert numbers["two"] == 2
    assert (list(numbers), numbers.names(), len(numbers)) == (["one", "two"], ("one", "two"), 2)
    with pytest.raises(UnknownNameError, match="unknown number 'twu', known are one, two; did you"):
        numbers["twu"]


def test_nothing_from_outside_replaces_a_built_in_item(toys_here: Path) -> None:
    (toys_here / "toys-1.0.dist-info" / "entry_points.txt").write_text(
        "[sllm.policies]\nshepherd = toy_policy:POLICY\n"
    )

    assert POLICIES["shepherd"] is POLICIES.built_in["shepherd"]
    assert POLICIES.names().count("shepherd") == 1


def test_references_are_distinguished_from_other_words() -> None:
    assert is_reference("a.b:C")
    assert not any(map(is_reference, ("a", "a:", "a:b:c", "tcp:1.2.3.4:5", "http://a:b", "a:b.c")))
    words = [
        "policy.scheduler=m:S",
        "policies=[a:B,c,d.e:F]",
        "path=/x/y:z/w",
        "http://a:80",
        "n:M",
    ]
    assert references_in(words) == ["m:S", "a:B", "d.e:F", "n:M"]


def test_a_reference_is_imported_only_if_it_is_allowed(toys_here: Path) -> None:
    reference = "toy_policy:POLICY"
    with pytest.raises(UsageError, match="the command line does not name it"):
        POLICIES[reference]

    PLUGINS.allow([reference, "not a reference"])

    assert POLICIES[reference] is POLICIES[reference]
    assert PLUGINS.allowed == (reference,)
    assert PLUGINS.packages("sllm.policies", "sllm.stores") == ("toy_policy",)


def test_settings_have_the_types_of_their_dataclass() -> None:
    texts = ("name=x", "count=3", "share=2", "fast=true", "mode=b", "inner.size=5")
    values = {
        name: parsed_setting(Outer, name, text, "it") for name, text in text_pairs(texts).items()
    }

    assert settings_of(Outer, values, "it") == Outer(
        name="x", count=3, share=2.0, fast=True, mode="b", inner=Inner(5)
    )
    assert parsed_setting(Outer, "share", "null", "it") is None
    assert settings_of(Outer, {"inner.size": 5}, "it", {"name": "y"}) == Outer("y", inner=Inner(5))
    names = ("name", "count", "share", "fast", "mode", "inner.size")
    assert setting_names(Outer) == names


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("counts", "1", "it: there is no setting 'counts', known are name, count, share, fast"),
        ("table", "1", "it: there is no setting 'table'"),
        ("inner", "1", "it: there is no setting 'inner'"),
        ("count", "1.5", "it: count must be a whole number, got '1.5'"),
        ("share", "x", "it: share must be a number or null, got 'x'"),
        ("fast", "yes", "it: fast must be true or false, got 'yes'"),
        ("mode", "c", "it: mode must be 'a' or 'b', got 'c'"),
    ],
)
def test_a_text_of_another_type_is_refused(name: str, text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parsed_setting(Outer, name, text, "it")
    assert str(refusal.value).startswith(complaint)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({}, "it: needs a value for name"),
        ({"name": 1}, "it: name must be text, got 1"),
        ({"name": "x", "count": True}, "it: count must be a whole number, got True"),
        ({"name": "x", "count": -1}, "it: count must not be negative, got -1"),
        ({"name": "x", "inner.size": "big"}, "it: inner: size must be a whole number, got 'big'"),
        ({"name": "x", "inner.length": 1}, "it: there is no setting 'inner.length'"),
    ],
)
def test_a_value_of_another_type_is_refused(values: dict[str, Setting], complaint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        settings_of(Outer, values, "it")
    assert str(refusal.value).startswith(complaint)


def test_a_policy_takes_its_own_settings_and_those_that_all_share() -> None:
    texts = {"max_preemptions": "5", "residency.keep_alive_s": "60", "prewarming.depth": "3"}
    policy = with_settings(PolicySettings("shepherd"), texts)

    assert (policy.max_preemptions, policy.residency.keep_alive_s) == (5, 60.0)
    assert policy.prewarming is not None
    assert policy.prewarming.depth == 3
    assert policy.prewarmer_name == "warmserve"
    with pytest.raises(UsageError, match=r"no setting 'splitting\.max_parts', known are max_cand"):
        with_settings(policy, {"splitting.max_parts": "2"})


class FixedChance:
    """Randomness that is none."""

    def randrange(self, stop: int, /) -> int:
        return 0


def test_a_leader_with_a_policy_from_outside_reads_its_snapshot_back(toys_here: Path) -> None:
    """Seeded bug: a leader's state without the policy's package, so that no leader can follow."""
    policy = PolicySettings("toy", settings={"patience": 2.0})
    saved = pickled(LeaderState(build_controller(policy, FixedChance()), PeerTable()).saved(()))

    unpickled(saved)  # raises for what it does not know

    PLUGINS._packages.clear()
    with pytest.raises(ClusterError, match=r"toy_policy\.ToyScheduler is not part of a leader's"):
        unpickled(saved)


def test_a_leader_does_not_replay_the_log_of_another_version_of_its_policy(
    toys_here: Path,
) -> None:
    code_stamp.cache_clear()
    stamps = [code_stamp()]
    POLICIES["toy"]
    for words in ("", "\n# words only\n", "\nCHANGED = True\n"):
        with (toys_here / "toy_policy.py").open("a") as file:
            file.write(words)
        code_stamp.cache_clear()
        stamps.append(code_stamp())
    code_stamp.cache_clear()

    without, first, reworded, changed = stamps
    assert first == reworded
    assert len({without, first, changed}) == 3


def test_a_store_has_one_syntax() -> None:
    assert parsed_store("sqlite").place == ""
    assert parsed_store("sqlite:/a/b.db").place == "/a/b.db"
    nodes = parsed_store("etcd:a:1,b:2")
    assert (nodes.place, nodes.kind.shared) == ("a:1,b:2", True)
    for wrong in ("etcd", "etcd:", "etcd:a", "memory:x", "etcdd:host:2379", "no_such:Thing"):
        with pytest.raises(UsageError):
            parsed_store(wrong)


def test_a_store_is_named_as_module_and_name(toys_here: Path) -> None:
    url = parsed_store("toy_store:STORE:/a/b")

    assert (url.place, url.kind.syntax) == ("/a/b", "toy:FILE")
