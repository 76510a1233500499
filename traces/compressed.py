"""The bytes of a trace file without its compression: gzip, bzip2, xz or zstd."""

import bz2
import gzip
import io
import lzma
from typing import BinaryIO, cast

from traces.errors import TraceError

GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_CHUNK_BYTES = 1 << 16


def unpacked(file: io.BufferedReader, magic: bytes) -> io.BufferedReader:
    """Return a stream of the bytes that `file` holds under its compression, if it has one.

    Args:
        file: The file, at its start.
        magic: The first six bytes.

    Raises:
        TraceError: The file needs a package that is not installed.
    """
    if magic.startswith(GZIP):
        return cast("io.BufferedReader", gzip.GzipFile(fileobj=file))
    if magic.startswith(BZIP2):
        return cast("io.BufferedReader", bz2.BZ2File(file))
    if magic.startswith(XZ):
        return cast("io.BufferedReader", lzma.LZMAFile(file))
    if magic.startswith(ZSTD):
        return io.BufferedReader(_ZstdReader(file))
    return file


class _ZstdReader(io.RawIOBase):
    """A reader of zstd frames that, unlike `zstandard`'s own, refuses a file that is cut off."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import zstandard
        except ImportError:
            raise TraceError("a zstd file needs the package zstandard: install .[sim]") from None
        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._error = zstandard.ZstdError
        self._file = file
        self._frame = self._new_frame()
        self._started = False
        self._packed = b""
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        """Fill a buffer; return the number of bytes, 0 at the end.

        Raises:
            EOFError: The file ends inside a frame, or its bytes are damaged.
        """
        view = memoryview(cast("bytearray", buffer))
        while not self._ready and self._more():
            pass
        num = min(len(view), len(self._ready))
        view[:num] = self._ready[:num]
        self._ready = self._ready[num:]
        return num

    def _more(self) -> bool:
        """Unpack the next piece; return False at the end of the file."""
        packed = self._packed or self._file.read(_CHUNK_BYTES)
        self._packed = b""
        if not packed:
            if self._started:
                raise EOFError("the last zstd frame is not complete")
            return False
        self._started = True
        try:
            self._ready = self._frame.decompress(packed)
        except self._error as error:
            raise EOFError(str(error)) from error
        if self._frame.eof:
            self._packed = self._frame.unused_data
            self._frame = self._new_frame()
            self._started = False
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
