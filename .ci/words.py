"""Find unclear wording in code and pages; CONTRIBUTING.md has the rules and the glossary.

    python .ci/words.py [PATHS]        prints FILE:LINE: what is wrong; exits 1 if anything is

Looks at docstrings, comments, error messages, and at the text of Markdown and YAML files.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

# Words for people, verbs of speech for machines, and archaisms.
_WORDS = re.compile(
    r"\b(nobody|whoever|whom|whose|anew|told|tells?|heard|hears?|says?|said|wherefrom)\b", re.I
)
# A docstring names its subject: it begins with a verb or a noun.
_STARTS = re.compile(
    r"(What|Who|Whose|Where|Whether|How|When|Which|Why|Of|As|That|It|Its|They|Their|This|These|"
    r"Those|One|Such|He|She|There)\b"
)
_MARKDOWN_CODE = re.compile(r"```.*?```|`[^`]*`", re.S)
_QUOTED = re.compile(r"`[^`]*`|\"[^\"\n]*\"")


def main(paths: list[str]) -> int:
    """Check the files that git tracks, or those below `paths`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *paths]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    files = [Path(name) for name in listed if name and Path(name).is_file()]
    problems = [f"{file}:{problem}" for file in files for problem in _problems(file)]
    print("\n".join(problems) or f"{len(files)} files: no unclear wording found")
    return 1 if problems else 0


def _problems(file: Path) -> Iterator[str]:
    match file.suffix:
        case ".py":
            yield from _in_python(file.read_text())
        case ".md":
            yield from _in_lines(_MARKDOWN_CODE.sub(_blank, file.read_text()).split("\n"))
        case ".yaml" | ".yml" | ".toml":
            comments = [line.partition("#")[2] for line in file.read_text().split("\n")]
            yield from _in_lines(comments)


def _in_lines(lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if found := _WORDS.search(_QUOTED.sub("", line)):
            yield f"{number}: {found[0]!r} in {line.strip()!r}"


def _in_python(source: str) -> Iterator[str]:
    if source.startswith(f'"""{__doc__}'):  # this file lists the words
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring and (found := _STARTS.match(docstring)):
                first = docstring.partition("\n")[0]
                yield f"{node.body[0].lineno}: a docstring begins with {found[0]!r}: {first!r}"
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _TEXT:
            lines = token.string.split("\n")
            for offset, problem in _numbered(lines):
                yield f"{token.start[0] + offset}: {problem}"


_TEXT = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}


def _numbered(lines: list[str]) -> Iterator[tuple[int, str]]:
    for offset, line in enumerate(lines):
        if found := _WORDS.search(re.sub(r"`[^`]*`", "", line)):
            yield offset, f"{found[0]!r} in {line.strip()!r}"


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
