"""The toy plug-ins, installed for other processes or for this one."""

import sys
from pathlib import Path

import pytest

from sllmcore.build import POLICIES, PREWARMERS, RESIDENCIES
from sllmcore.plugins import PLUGINS
from sllmreal.engine.registry import ENGINES
from sllmreal.store.registry import STORES
from tests.plugins.toys import FILES, install
from traces.registry import FORMATS


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A folder with the plug-ins, for processes with `toys.environment`."""
    return install(tmp_path / "toys")


@pytest.fixture
def toys_here(toys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plug-ins installed in this process, until the test ends."""
    monkeypatch.syspath_prepend(toys)
    monkeypatch.setattr(PLUGINS, "_allowed", set())
    monkeypatch.setattr(PLUGINS, "_packages", {})
    for registry in (POLICIES, RESIDENCIES, PREWARMERS, ENGINES, STORES, FORMATS):
        monkeypatch.setattr(registry, "_loaded", {})
    for module in FILES:
        monkeypatch.delitem(sys.modules, module, raising=False)
    return toys
