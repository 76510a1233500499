"""The commands of a cluster's processes: the files that they read, and what they refuse."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from sllmcore.build import POLICIES, PolicySettings
from sllmcore.errors import UsageError
from sllmcore.events import ServerJoined
from sllmcore.journal import header_line, to_plain
from sllmcore.types import SSD, Residency, ServerSpec
from sllmreal.cli import main as sllm
from sllmreal.leader.control_loop import Compaction
from sllmreal.processes import leader
from sllmreal.processes.server_options import given_server, opened_storage

SERVER = ServerSpec(
    id="s0",
    num_gpus=2,
    gpu_memory_bytes=1 << 30,
    dram_bytes=1000,
    ssd_bytes=1000,
    remote_bytes_per_s=1e6,
    ssd_bytes_per_s=2e6,
    dram_bytes_per_s=1e7,
)
JOINED = ServerJoined(SERVER, (Residency(SSD, "m", 100),))


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize("policy", [name for name in POLICIES if POLICIES[name].splits_loads])
def test_serve_refuses_a_policy_that_splits_loads(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"

    assert sllm.main(["serve", "--home", str(home), "--policy", policy]) == 2

    error = capsys.readouterr().err
    assert error.startswith(f"sllm: policy {policy}: its workers do not split loads")
    assert error.count("\n") == 1
    assert not home.exists()


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize("policy", [name for name in POLICIES if POLICIES[name].splits_loads])
def test_a_leader_refuses_a_policy_file_with_a_policy_that_splits_loads(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.json"
    file.write_text(header_line(PolicySettings(policy), 0))

    assert leader.main(["--home", str(tmp_path / "h"), "--policy-file", str(file)]) == 2

    assert "do not split loads" in capsys.readouterr().err


def leader_arguments(file: Path | None, compact_every: int) -> Namespace:
    return Namespace(
        policy="shepherd",
        settings=[],
        policy_file=file,
        allow=[],
        seed=3,
        compact_every=compact_every,
        home=Path(),
    )


def test_a_policy_file_gives_policy_and_seed(tmp_path: Path) -> None:
    policy, file = PolicySettings("serverless", max_candidates=5), tmp_path / "journal"
    file.write_text(header_line(policy, 7) + "\n{not an entry\n")

    settings = leader.leader_settings(leader_arguments(file, 0))

    assert (settings.policy, settings.seed, settings.compaction) == (policy, 7, None)


def test_without_a_policy_file_name_and_seed_count() -> None:
    settings = leader.leader_settings(leader_arguments(None, 9))

    assert (settings.policy.name, settings.seed) == ("shepherd", 3)
    assert settings.compaction == Compaction(9)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not begin with a journal's header"),
        ("[1]", "does not begin with a journal's header"),
        (header_line({"no such setting": 1}, 0), "does not begin with a journal's header"),
        (None, "cannot be read: No such file"),
    ],
    ids=["empty", "no header", "unknown setting", "missing"],
)
def test_a_bad_policy_file_is_refused(text: str | None, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "journal"
    if text is not None:
        file.write_text(text)

    with pytest.raises(UsageError, match=complaint):
        leader.leader_settings(leader_arguments(file, 0))


def test_a_server_file_gives_the_server_and_what_its_tiers_hold(tmp_path: Path) -> None:
    file = tmp_path / "s0.json"
    file.write_text(json.dumps(to_plain(JOINED)))

    joined = given_server(Namespace(server_file=file))

    assert joined == JOINED
    storage = opened_storage(SERVER, tmp_path, paced=True, resident=joined.resident)
    assert storage.resident() == JOINED.resident


@pytest.mark.parametrize("text", ["{", "[]", '{"server": {"id": "s0"}}', '{"other": 1}'])
def test_a_bad_server_file_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "s0.json"
    file.write_text(text)

    with pytest.raises(UsageError, match="is not a ServerJoined event"):
        given_server(Namespace(server_file=file))
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        given_server(Namespace(server_file=tmp_path / "missing"))


def test_real_tiers_begin_empty(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only the tiers of --paced"):
        opened_storage(SERVER, tmp_path, paced=False, resident=JOINED.resident)
