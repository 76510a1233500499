"""Find unclear wording in code and pages; CONTRIBUTING.md has the rules and the glossary.

    python .ci/words.py [PATHS]        prints FILE:LINE: the problem; exits with 1 if there is one

Reads docstrings, comments and messages of Python files, the text of Markdown files, and comments of
YAML and TOML files. Text in backticks or double quotes is not checked, nor are strings of one word.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

_WORDS = re.compile(
    r"\b(nobody|whoever|whom"  # words for people
    r"|tell(s|ing)?|told|say(s|ing)?|said|hear(s|d|ing)?"  # verbs of speech
    r"|anew|lest|whence|wherefrom"  # archaisms
    r"|desk|roster|whereabouts|farewells?|goodbyes?|burials?|claimants?"  # replaced: see glossary
    r")\b|[.;:] who\b",  # "...: who waits is next"
    re.IGNORECASE,
)
# A docstring begins with a verb or a noun, and so does the description of an attribute in it.
_STARTS = re.compile(
    r"(What|Who|Whose|Where|Whether|How|When|Which|Why|Of|As|That|It|Its|They|Their|This|These|"
    r"Those|One|Such|He|She|There)\b"
)
_ATTRIBUTE = re.compile(r"\s+\w+: (What|Who|Whose|Whom|Of|Its?|That|Those)\b")
_QUOTED = re.compile(r"`[^`]*`|\"[^\"\n]*\"")
_MARKDOWN_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
_DELIMITERS = re.compile(r"^\w{0,2}(\"\"\"|'''|\"|')|(\"\"\"|'''|\"|')$")
_EXEMPT = {"words.py", "test_words.py"}  # they quote the words
_STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}


def main(paths: list[str]) -> int:
    """Check the files of the repository that git does not ignore, or those of them in `paths`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *paths]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    names = dict.fromkeys(listed.stdout.split("\n"))
    files = [Path(name) for name in names if name and Path(name).is_file()]
    problems = [f"{file}:{problem}" for file in files for problem in _problems(file)]
    print("\n".join(problems) or f"{len(files)} files: no unclear wording found")
    return 1 if problems else 0


def _problems(file: Path) -> Iterator[str]:
    match file.suffix:
        case ".py" if file.name not in _EXEMPT:
            yield from in_python(file.read_text())
        case ".md":
            yield from in_markdown(file.read_text())
        case ".yaml" | ".yml" | ".toml":
            comments = [line.partition("#")[2] for line in file.read_text().split("\n")]
            yield from _in_lines(1, comments)


def in_python(source: str) -> Iterator[str]:
    """Yield "LINE: the problem" for docstrings, comments and messages."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _in_docstring(node)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string
        if token.type in _STRINGS:
            text = _DELIMITERS.sub("", text)
        if token.type == tokenize.COMMENT or (token.type in _STRINGS and " " in text.strip()):
            yield from _in_lines(token.start[0], text.split("\n"))


def in_markdown(text: str) -> Iterator[str]:
    """Yield "LINE: the problem" for text that is no code."""
    blanked = _MARKDOWN_CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    return _in_lines(1, blanked.split("\n"))


def _in_docstring(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> Iterator[str]:
    docstring = ast.get_docstring(node, clean=False)
    if not docstring:
        return
    number, lines = node.body[0].lineno, docstring.split("\n")
    if found := _STARTS.match(docstring.lstrip()):
        yield f"{number}: a docstring begins with {found[0]!r}: {lines[0]!r}"
    for offset, line in enumerate(lines):
        if found := _ATTRIBUTE.match(line):
            yield f"{number + offset}: a description begins with {found[1]!r}: {line.strip()!r}"


def _in_lines(first: int, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=first):
        if found := _WORDS.search(_QUOTED.sub("", line)):
            yield f"{number}: {found[0]!r} in {line.strip()!r}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
