"""The code text of a source is what is executed: words do not change it, code does."""

import ast
from pathlib import Path

import pytest

from sllmcore.code_text import code_text

SOURCE = '''"""What a module is for."""

import math  # a reason


class Circle:
    """A circle.

    Two lines, with ünïcode.
    """

    radius_m: float
    """The radius."""

    def area(self) -> float:
        """Its area."""
        # a hazard
        label = "# not a comment"
        text = """not a
        docstring  """
        return math.pi * self.radius_m**2 if label or text else 0.0  # ünïcode


def empty() -> None:
    """Nothing."""
'''
REWORDED = '''"""Circles,

at length.
"""
# With a comment.
import math


class Circle:
    # Without a docstring.
    radius_m: float

    def area(self) -> float:
        """Return the area in square metres: pi times the squared radius."""

        label = "# not a comment"
        text = """not a
        docstring  """
        return math.pi * self.radius_m**2 if label or text else 0.0
def empty() -> None:
    "One line."
'''


def test_words_and_blank_lines_do_not_change_the_code_text() -> None:
    assert code_text(SOURCE) == code_text(REWORDED)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("math.pi", "3.0"),
        ('"# not a comment"', '"# another string"'),
        ("docstring  ", "docstring "),
        ("radius_m", "radius_s"),
    ],
)
def test_code_changes_the_code_text(old: str, new: str) -> None:
    assert code_text(SOURCE) != code_text(SOURCE.replace(old, new))


def test_a_statement_beside_a_bare_string_is_kept() -> None:
    assert code_text('"""Words."""; x = 1\n') == ";x = 1\n".replace(";", "; ")


def test_every_file_of_the_core_keeps_its_syntax_tree_but_for_its_words() -> None:
    for path in sorted(Path("sllmcore").rglob("*.py")):
        source = path.read_text()

        kept = {line.strip() for line in code_text(source).splitlines()}

        defined = [n.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
        assert all(any(f"def {name}(" in line for line in kept) for name in defined)
        assert not any(line.startswith(('"""', "# ")) for line in kept)
