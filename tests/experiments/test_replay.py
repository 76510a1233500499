"""`experiments.replay`: equal commands, the first difference, and damaged journals."""

from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from experiments import replay
from experiments.simulation.run_folder import JOURNAL
from sllmcore.build import POLICIES
from tests.experiments.commands import small_run

FAULTS = (
    "driver.fault_horizon_s=40",
    "driver.faults.server_crash_every_s=20",
    "driver.faults.engine_crash_every_s=15",
    "driver.faults.load_failure_every_s=10",
    "driver.faults.slow_disk_every_s=20",
    "driver.faults.link_loss_every_s=20",
    "driver.faults.controller_crash_every_s=10",
    "driver.faults.controller_down_for_s=1",
)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the journal of a run with faults."""
    return small_run(tmp_path_factory.mktemp("replay") / "run", *FAULTS) / JOURNAL


@pytest.mark.parametrize("policy", POLICIES)
def test_a_run_with_faults_replays_to_the_same_commands(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_run(tmp_path / "run", f"policy={policy}", *FAULTS)
    capsys.readouterr()

    assert replay.main([str(folder)]) == 0
    assert "100 % identical" in capsys.readouterr().out


def test_a_plain_journal_replays_too(journal: Path, tmp_path: Path) -> None:
    plain = tmp_path / "journal.jsonl"
    plain.write_text(_text(journal))

    assert replay.main([str(plain)]) == 0


def test_the_first_difference_is_shown(
    journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _text(journal).splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if '"type":"Infer"' in line)
    lines[number] = lines[number].replace('"attempt":1', '"attempt":9')
    changed = tmp_path / "journal.jsonl"
    changed.write_text("".join(lines))

    assert replay.main([str(changed)]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(f"entry {number} (line {number + 1}) at ")
    assert "\n  - StartRequest" in printed
    assert "\n  + StartRequest" in printed


def _text(path: Path) -> str:
    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes()).decode()


DAMAGE: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda _: "", "is empty"),
    "cut in a line": (lambda text: text[:-10], "is cut off"),
    "no header": (lambda text: text.partition("\n")[2], "line 1 is not the header"),
    "not JSON": (lambda text: text + "{nonsense\n", "is not JSON"),
    "unknown event": (lambda text: text.replace('"RequestArrived"', '"Rain"'), "is not an entry"),
    "no policy": (lambda text: text.replace('"policy"', '"polite"', 1), "line 1, the header"),
    "strange policy": (
        lambda text: text.replace('"max_candidates"', '"most"', 1),
        "line 1, the header, holds no policy",
    ),
    "unknown policy": (
        lambda text: text.replace('"name":"serverlessllm"', '"name":"best"', 1),
        "unknown policy 'best'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_journal_is_reported_in_one_line(
    damage: str, journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, complaint = DAMAGE[damage]
    path = tmp_path / "journal.jsonl"
    path.write_text(change(_text(journal)))

    assert replay.main([str(path)]) == 2
    printed = capsys.readouterr().err
    assert complaint in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_file_that_ends_too_early_is_reported(
    keep: float, journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = journal.read_bytes()
    path = tmp_path / "journal.jsonl.zst"
    path.write_bytes(packed[: int(keep * len(packed))])

    assert replay.main([str(path)]) == 2
    assert "cut off" in capsys.readouterr().err


def test_flipped_bits_are_reported(
    journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = bytearray(journal.read_bytes())
    packed[-2] ^= 0xFF  # in the checksum of the content
    path = tmp_path / "journal.jsonl.zst"
    path.write_bytes(packed)

    assert replay.main([str(path)]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_a_missing_journal_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main(["nowhere"]) == 2
    assert "there is no journal nowhere" in capsys.readouterr().err
