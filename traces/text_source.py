"""The lines of a trace file with the number of the current line, however the file is packed."""

import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from traces.compressed import unpacked
from traces.errors import TraceError
from traces.parquet_lines import PARQUET_MAGIC, parquet_lines
from traces.pipe import opened

FOREIGN_MAGICS = {  # containers that the public archives come in
    b"Rar!": "a RAR archive: unpack it with RARLAB's unrar first",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"version https://git-lfs": "a pointer of Git LFS, not the file: fetch it with git lfs pull",
    b"<!DOCTYPE": "an HTML page: download the file itself",
    b"<html": "an HTML page: download the file itself",
}
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_PEEK_BYTES = 512
_DELIMITERS = (",", ";", "\t", "|")
BLOCK_LINES = 2048  # best of 256 to 16384 for a file of 1 M rows; more only delays the first row


class TextSource:
    """The lines of a file, read once.

    Text is UTF-8, with or without a byte order mark. Compression (gzip, bzip2, xz, zstd) is
    recognised by the first bytes. A Parquet file is read as a CSV table, a JSON array as JSON
    lines: the number of a line is then that of the element. `-` is standard input.

    Raises:
        TraceError: While reading: the file is missing, a directory, unreadable, another kind of
            archive, cut off inside its compressed stream, or not UTF-8.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.line_number = 0  # of the last line yielded; 1 is the header
        self._delimiter: str | None = None

    def first_line(self) -> str | None:
        """Return line 1; None for an empty file."""
        blocks = self.blocks()
        block = next(blocks, None)
        return None if block is None else block[0]

    @property
    def delimiter(self) -> str:
        """The separator of cells: the most frequent one in the header."""
        if self._delimiter is None:
            header = TextSource(self.path).first_line() or ""
            if header.lstrip().startswith("{"):
                header = ""
            self._delimiter = max(_DELIMITERS, key=header.count)
        return self._delimiter

    def blocks(self) -> Iterator[list[str]]:
        """Yield lines with their ends: the first alone (a header), then BLOCK_LINES at a time.

        `line_number` is that of the block's last line.
        """
        try:
            with self._lines() as lines:
                size = 1
                while block := list(islice(lines, size)):
                    self.line_number += len(block)
                    yield block
                    size = BLOCK_LINES
        except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
            problem = f"the compressed stream is cut off or damaged ({error})"
            raise TraceError(problem, self.path, self.line_number + 1) from error
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            problem = f"not UTF-8 text after this line: byte 0x{byte:02x} ({error.reason})"
            raise TraceError(problem, self.path, self.line_number + 1) from error
        except OSError as error:
            raise TraceError(_why_unreadable(error), self.path) from error

    def csv_rows(self) -> Iterator[list[str]]:
        """Yield the cells of each line that is not blank."""
        for block in self.blocks():
            first = self.line_number - len(block) + 1
            for line_number, line in enumerate(block, start=first):
                self.line_number = line_number
                cells = self.cells(line)
                if cells:
                    yield cells

    def cells(self, line: str) -> list[str]:
        """Return the cells of a line; none for a blank line. A quoted cell must not span lines."""
        try:
            return next(csv.reader((line,), delimiter=self.delimiter, strict=True), [])
        except csv.Error as error:
            raise self.error(f"not CSV: {error}") from error

    def names_in(self, line: str) -> list[str]:
        """Return the columns in a header, or the fields of a JSON object.

        Raises:
            TraceError: The line is neither CSV nor JSON.
        """
        if not line.startswith("{"):
            return [name.strip() for name in self.cells(line)]
        try:
            return list(json.loads(line))
        except json.JSONDecodeError as error:
            raise self.error(f"not JSON: {error.msg}", None, line) from error

    def first_names(self) -> list[str]:
        """Return the columns of a table, or the fields of the first JSON object.

        Raises:
            TraceError: The file is empty, or its first line is neither.
        """
        line = (self.first_line() or "").strip()
        if not line:
            raise TraceError("the file is empty", self.path)
        return self.names_in(line)

    def error(
        self, problem: str, column: str | None = None, value: str | None = None
    ) -> TraceError:
        """Return a TraceError at the current line."""
        return TraceError(problem, self.path, self.line_number or None, column, value)

    @contextmanager
    def _lines(self) -> Iterator[Iterator[str]]:
        with opened(self.path) as file:
            magic = file.read(6)
            file.seek(0)
            with unpacked(file, magic) as data:
                start = data.peek(_PEEK_BYTES)
                self._refuse_foreign(start)
                if start.startswith(PARQUET_MAGIC):
                    yield self._with_path(parquet_lines(io.BytesIO(data.read())))
                    return
                text = io.TextIOWrapper(data, encoding="utf-8-sig")
                is_array = start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
                yield self._array_lines(text) if is_array else text

    def _refuse_foreign(self, start: bytes) -> None:
        for foreign, advice in FOREIGN_MAGICS.items():
            if start.startswith(foreign):
                raise TraceError(f"this is {advice}", self.path)
        if start[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC):
            raise TraceError("this is a tar archive: unpack it with tar -xf first", self.path)

    def _with_path(self, lines: Iterator[str]) -> Iterator[str]:
        try:
            yield from lines
        except TraceError as error:
            raise TraceError(error.problem, self.path) from error

    def _array_lines(self, text: io.TextIOWrapper) -> Iterator[str]:
        """Yield the elements of a JSON array, each as a line."""
        try:
            elements = json.load(text)
        except json.JSONDecodeError as error:
            raise TraceError(f"not JSON: {error.msg}", self.path, error.lineno) from error
        for element in elements:
            yield json.dumps(element) + "\n"


def _why_unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "this is a directory: give the file or files in it"
    return f"cannot be read ({error.strerror or error})"
