"""Results become stale when code or settings change, but not when comments do."""

from pathlib import Path

import pytest

from experiments.comparison import identity
from experiments.reproduction.figures import grid

CODE = '"""Words."""\nx = 1  # a reason\n'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a package with a module and a data file."""
    monkeypatch.setattr(identity, "_ROOT", tmp_path)
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "module.py").write_text(CODE)
    (folder / "data.json").write_text("{}")
    return folder


def digest_of(folder: Path) -> str:
    """Return the digest of a package, computed again."""
    identity.source_digest.cache_clear()
    try:
        return identity.source_digest((folder.name,))
    finally:
        identity.source_digest.cache_clear()


def test_a_reworded_docstring_keeps_the_digest_of_a_program(package: Path) -> None:
    before = digest_of(package)

    (package / "module.py").write_text('"""Other\n\nwords."""\n# Why.\nx = 1\n')

    assert digest_of(package) == before


@pytest.mark.parametrize(("name", "text"), [("module.py", "x = 2\n"), ("data.json", "{ }")])
def test_code_and_data_change_the_digest_of_a_program(package: Path, name: str, text: str) -> None:
    before = digest_of(package)

    (package / name).write_text(text)

    assert digest_of(package) != before


def test_a_config_is_compared_by_its_data(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    texts = [
        "# @package _global_\na: 1 # words\n",
        "# words\n# @package _global_\na: 1\n",
        "a: 1\n",
    ]

    first, reworded, other = (grid._config_text(path) for text in texts if path.write_text(text))

    assert first == reworded
    assert first != other
