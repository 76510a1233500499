"""The lines of a trace file, plain or gzip, with the number of the current line."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from traces.errors import TraceError

GZIP_MAGIC = b"\x1f\x8b"
FOREIGN_MAGICS = {  # containers that the public archives come in
    b"Rar!": "a RAR archive: unpack it with RARLAB's unrar first",
    b"\xfd7zX": "an xz archive: unpack it with tar -xJf first",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"PAR1": "a Parquet file: export it as CSV first",
}
BLOCK_LINES = 2048  # best of 256 to 16384 for a file of 1 M rows; more only delays the first row


class TextSource:
    """The lines of a file, read once.

    Text is UTF-8, with or without a byte order mark. Gzip is recognised by its magic bytes.

    Raises:
        TraceError: While reading: the file is missing, a directory, unreadable, another kind of
            archive, cut off inside its gzip stream, or not UTF-8.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.line_number = 0  # of the last line yielded; 1 is the header

    def first_line(self) -> str | None:
        """Return line 1; None for an empty file."""
        blocks = self.blocks()
        block = next(blocks, None)
        return None if block is None else block[0]

    def blocks(self) -> Iterator[list[str]]:
        """Yield lines with their ends: the first alone (a header), then BLOCK_LINES at a time.

        `line_number` is that of the block's last line.
        """
        try:
            with self._opened() as text:
                size = 1
                while block := list(islice(text, size)):
                    self.line_number += len(block)
                    yield block
                    size = BLOCK_LINES
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            problem = f"the gzip stream is cut off or damaged ({error})"
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
            return next(csv.reader((line,), strict=True), [])
        except csv.Error as error:
            raise self.error(f"not CSV: {error}") from error

    def error(
        self, problem: str, column: str | None = None, value: str | None = None
    ) -> TraceError:
        """Return a TraceError at the current line."""
        return TraceError(problem, self.path, self.line_number or None, column, value)

    def _opened(self) -> io.TextIOWrapper:
        with self.path.open("rb") as file:
            magic = file.read(6)
        for foreign, advice in FOREIGN_MAGICS.items():
            if magic.startswith(foreign):
                raise TraceError(f"this is {advice}", self.path)
        zipped = magic.startswith(GZIP_MAGIC)
        raw = gzip.GzipFile(self.path) if zipped else self.path.open("rb")
        return io.TextIOWrapper(cast("BinaryIO", raw), encoding="utf-8-sig")


def _why_unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "this is a directory: give the file or files in it"
    return f"cannot be read ({error.strerror or error})"
