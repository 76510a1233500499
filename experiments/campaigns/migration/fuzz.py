"""Feed damaged frames and handshakes of a migration link to its decoders.

    python -m experiments.campaigns.migration.fuzz --executions 10000000

Each execution damages a valid frame of one message type: bits, lengths, kinds, numbers, MACs, a cut
or a repetition. Half of the frames are sealed with the right key after the damage, as a defective
but authentic peer would do, so that they reach the decoders and the sequence behind them.

Checks that only typed errors are raised, that no read is longer than its message type allows, and
that nothing but a header is read before the header is authenticated.

Duration: about 20 minutes for 10 M executions. Exit status: 1 at the first error (a traceback).
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from random import Random

import msgspec

from experiments.benchmarks.terminal import ProgressLine, command_parser
from experiments.campaigns.migration.samples import sample_spec
from sllmcore.errors import SllmError
from sllmreal.engine.protocol import Engine
from sllmreal.engine.timed import TimedOptions, timed_engine
from sllmreal.migration import frames
from sllmreal.migration.errors import FrameError, MigrationError
from sllmreal.migration.frames import (
    HEADER_BYTES,
    MAC_BYTES,
    Framed,
    Opener,
    Sealer,
    unpack_hello,
)
from sllmreal.migration.messages import (
    Ack,
    Alive,
    Final,
    LogDelta,
    RejectMigration,
    StateDelta,
    ToDestination,
    ToSource,
)
from sllmreal.migration.sequence import ArrivingSequence
from sllmreal.transport.errors import LinkError

KEY = b"k" * 32
SAMPLES: dict[type[Framed], tuple[Framed, ...]] = {
    LogDelta: (LogDelta(0, 3, memoryview(bytes(12))), LogDelta(2, 2, memoryview(b""))),
    StateDelta: (
        StateDelta(0, 2, (memoryview(bytes(32)), memoryview(bytes(32)))),
        StateDelta(0, 4, (memoryview(bytes(128)),)),
    ),
    Final: (Final(3, 22), Final(0, 0)),
    Ack: (Ack(3, 22, 22), Ack(0, 0, 0)),
    RejectMigration: (RejectMigration("no"), RejectMigration("")),
    Alive: (Alive(),),
}


class FrameFuzzer:
    """Damages frames of one message type and opens them; counts the outcomes by error."""

    def __init__(self, kind: type[Framed], seed: int) -> None:
        self._rng = Random(f"{seed}/{kind.__name__}")
        self._kind = kind
        self._accepted = ToSource if kind in (Ack, RejectMigration) else ToDestination
        self._engine: Engine = timed_engine(TimedOptions(num_slots=1))
        self.outcomes: Counter[str] = Counter()

    def run_once(self) -> None:
        """Run one execution. Raises the error that only an incorrect decoder can raise."""
        raw = self._damaged()
        opener = Opener(KEY, self._accepted)
        try:
            message = opener.open(FrameReader(raw).read)
        except (MigrationError, LinkError) as error:
            self.outcomes[type(error).__name__] += 1
            return
        self._absorb(message)

    def _damaged(self) -> bytes:
        rng = self._rng
        message = rng.choice(SAMPLES[self._kind])
        if rng.random() < 0.5:
            return self._sealed_damage(message)
        raw = bytearray(b"".join(Sealer(KEY).seal(message)))
        for _ in range(rng.randint(1, 4)):
            self._mutate(raw)
        return bytes(raw)

    def _sealed_damage(self, message: Framed) -> bytes:
        """Return a frame with a payload that was damaged before it was sealed."""
        payload = bytearray(msgspec.msgpack.encode(message))
        for _ in range(self._rng.randint(1, 4)):
            self._mutate(payload)
        kind = (
            frames._NUMBERS[self._kind] if self._rng.random() < 0.95 else self._rng.randrange(256)
        )
        header = frames._HEADER.pack(kind, len(payload), 0)
        return b"".join(
            (
                header,
                frames._mac(KEY, header),
                payload,
                frames._mac(KEY, header, bytes(payload)),
            )
        )

    def _mutate(self, raw: bytearray) -> None:
        rng = self._rng
        place = rng.randrange(len(raw)) if raw else 0
        match rng.randrange(6):
            case 0 if raw:
                raw[place] ^= 1 << rng.randrange(8)
            case 1 if raw:
                raw[place] = rng.choice((0, 1, 0x7F, 0x80, 0xC4, 0xC6, 0xDC, 0xDD, 0xFF))
            case 2:
                del raw[place:]
            case 3:
                raw[place:place] = rng.randbytes(rng.randint(1, 9))
            case 4 if raw:
                begin = rng.randrange(len(raw))
                raw[place:place] = raw[begin : begin + rng.randint(1, 16)]
            case _:
                raw[place : place + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\0\0\0\x80"))

    def _absorb(self, message: Framed) -> None:
        """Give a decoded message to an arriving sequence, which may raise typed errors only."""
        if not isinstance(message, ToDestination):
            self.outcomes["read"] += 1
            return
        spec = sample_spec()
        arriving = ArrivingSequence(self._engine, spec, self._rng.choice((None, 0, 10)))
        try:
            if isinstance(message, Final):
                arriving.complete(message)
            else:
                arriving.absorb(message)
            self.outcomes["absorbed"] += 1
        except SllmError as error:
            self.outcomes[type(error).__name__] += 1
        finally:
            self._engine.cancel(spec.request_id)


class FrameReader:
    """Reads bytes as a socket does, and checks the length of each read."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._place = 0

    def read(self, target: memoryview) -> None:
        """Fill `target`. Raises LinkError if too few bytes are left."""
        limit = HEADER_BYTES if self._place == 0 else (40 << 20) + MAC_BYTES
        assert len(target) <= limit, f"a read of {len(target)} bytes, allowed {limit}"
        part = self._raw[self._place : self._place + len(target)]
        if len(part) < len(target):
            raise LinkError("the other end closed the link")
        target[:] = part
        self._place += len(target)


def fuzz_hello(executions: int, seed: int) -> None:
    """Damage the handshake, which arrives before authentication, and unpack it."""
    rng = Random(seed)
    for _ in range(executions):
        raw = bytearray(frames.pack_hello(bytes(16), bytes(16)))
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            del raw[rng.randrange(len(raw)) :]
        try:
            hello = unpack_hello(bytes(raw))
            assert len(hello.link_id) == len(hello.nonce) == 16
        except FrameError:
            continue


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; an error that must not occur propagates."""
    parser = command_parser("experiments.campaigns.migration.fuzz", __doc__)
    add = parser.add_argument
    add("--executions", type=int, default=10_000_000, help="executions per message type")
    add("--seed", type=int, default=0, help="random seed of the damage")
    options = parser.parse_args(argv)
    for kind in SAMPLES:
        began_s = time.monotonic()
        fuzzer = FrameFuzzer(kind, options.seed)
        with ProgressLine(f"frames of {kind.__name__}", options.executions) as progress:
            for number in range(options.executions):
                fuzzer.run_once()
                if number % 1000 == 0:
                    progress.show(number)
        rate = options.executions / (time.monotonic() - began_s)
        print(f"{kind.__name__}: {options.executions} at {rate:,.0f}/s, {dict(fuzzer.outcomes)}")
    fuzz_hello(options.executions, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
