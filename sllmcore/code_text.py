"""Python source reduced to its code, so that a hash of it does not depend on comments.

A log, a comparison and a figure each carry a hash of the code that made them. A new wording of a
docstring or comment changes no result, so it must not change such a hash.
"""

import ast
import io
import tokenize


def code_text(source: str) -> str:
    """Return the source without docstrings, comments, blank lines and trailing spaces.

    The text is the same on every supported Python, unlike a dump of the syntax tree.

    Raises:
        SyntaxError: The source is not Python.
    """
    lines = [line.encode() for line in source.split("\n")]
    for node in _bare_strings(ast.parse(source)):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        first, last = node.lineno - 1, node.end_lineno - 1
        after = lines[last][node.end_col_offset :]
        lines[first] = lines[first][: node.col_offset] + (after if first == last else b"")
        if first != last:
            lines[first + 1 : last + 1] = [b""] * (last - first - 1) + [after]
    return _without_comments(b"\n".join(lines).decode())


def _bare_strings(tree: ast.Module) -> list[ast.Expr]:
    """Return the statements that are only a string (docstrings of any kind), last one first."""
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset), reverse=True)


def _without_comments(source: str) -> str:
    lines = source.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            lines[line - 1] = lines[line - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip()) + "\n"
