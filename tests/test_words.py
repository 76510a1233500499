"""The checker of wording, `.ci/words.py`; `make check` runs it over all files."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def checker() -> ModuleType:
    path = Path(__file__).parent.parent / ".ci" / "words.py"
    spec = importlib.util.spec_from_file_location("words", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problems(source: str) -> list[str]:
    return list(checker().in_python(source))


@pytest.mark.parametrize(
    "source",
    [
        '"""What nobody waits for."""',
        'def f():\n    """Of the current window, by model."""',
        'class Peer:\n    """A peer.\n\n    Attributes:\n        key: Of its link.\n    """',
        "x = 1  # the leader has heard of it",
        'raise ValueError("the server was not told so")',
        'raise ValueError(f"{name} says nothing")',
        '"""Leave the queue: who is behind moves up."""',
        "x = 1  # the desk has the request",
    ],
)
def test_unclear_wording_is_found(source: str) -> None:
    assert problems(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""Return the queue, of which the first entry starts next."""',
        'def f():\n    """Start the instances whose GPUs are free."""',
        "told = 1  # names are not text",
        'user = "nobody"',
        'x = 1  # the channel answers "said" and `hear`',
        'class Peer:\n    """A peer.\n\n    Attributes:\n        key: Key of the link.\n    """',
    ],
)
def test_plain_wording_passes(source: str) -> None:
    assert problems(source) == []


def test_problems_have_their_line() -> None:
    source = 'def f():\n    """Start.\n\n    Nobody waits.\n    """\n'

    assert problems(source) == ["4: 'Nobody' in 'Nobody waits.'"]


def test_code_in_a_page_is_not_text() -> None:
    page = "Run\n\n```\nsay hello\n```\n\nand `say`, but do not say\n"

    (problem,) = checker().in_markdown(page)

    assert problem.startswith("7: 'say' in")
