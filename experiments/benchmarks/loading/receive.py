"""A bare HTTP receiver, the limit of a remote load: bytes go to one buffer and are discarded.

A loader additionally needs memory for all bytes, hashes them, and writes a copy to the SSD.
"""

import mmap
import socket
import threading
from urllib.parse import urlsplit

_BUFFER_BYTES = 4 << 20


def receive_and_forget(url: str, size_bytes: int, num_connections: int) -> None:
    """Fetch an object of `size_bytes`, an equal range per connection, and discard the bytes.

    Raises RuntimeError if bytes are missing.
    """
    share = -(-size_bytes // num_connections)
    ranges = [(at, min(at + share, size_bytes)) for at in range(0, size_bytes, share)]
    done: list[int] = []
    threads = [
        threading.Thread(target=lambda begin, end: done.append(_receive(url, begin, end)), args=one)
        for one in ranges
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if sum(done) != size_bytes:
        raise RuntimeError(f"received {sum(done)} of {size_bytes} bytes")


def _receive(url: str, begin: int, end: int) -> int:
    parts = urlsplit(url)
    assert parts.hostname is not None
    buffer = memoryview(mmap.mmap(-1, _BUFFER_BYTES))
    with socket.create_connection((parts.hostname, parts.port or 80), 30) as connection:
        connection.settimeout(None)  # one call fills a whole buffer
        wanted = f"Host: {parts.netloc}\r\nRange: bytes={begin}-{end - 1}\r\nConnection: close"
        connection.sendall(f"GET {parts.path} HTTP/1.1\r\n{wanted}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1 << 16)
        received = len(head.partition(b"\r\n\r\n")[2])
        while got := connection.recv_into(buffer, 0, socket.MSG_WAITALL):
            received += got
    return received
