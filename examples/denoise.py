"""Live migration of a denoising loop between two hosts, while the loop goes on.

    python examples/denoise.py

prints each step, each message between the hosts, and a comparison with a loop that never migrated.
`sllmreal.migration` knows only the two protocols of `sllmreal.migration.workload`; `DenoiseJob`
implements both. Use it as a pattern for a workload of your own.

The job is a diffusion-style sampler. A latent x of shape (channels, size, size) starts as noise and
is denoised in `num_steps` steps of the deterministic sampler of denoising diffusion implicit models
(Song et al. 2021, equation 12 with sigma = 0):

    x0   = (x - sqrt(1 - a[t]) e(x, t)) / sqrt(a[t])
    x'   = sqrt(a[t-1]) x0 + sqrt(1 - a[t-1]) e(x, t)

e is a small convolutional network with fixed random weights instead of trained ones: the arithmetic
is real, and every bit of the result depends on every step. There is no log to replay. The state is
compact, so every delta is the whole latent: a few tens of KiB at any step.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sllmcore.errors import UsageError
from sllmcore.migration_rounds import RoundSettings
from sllmreal.migration.destination import DestinationOptions, MigrationDestination
from sllmreal.migration.errors import BadDeltaError
from sllmreal.migration.messages import Delta, Final, LogDelta, Position, StateDelta
from sllmreal.migration.source import MigrationSource, SourceOptions

Latent = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DenoiseSpec:
    """All parameters that determine a job's result."""

    num_steps: int = 50
    channels: int = 4
    size: int = 32
    hidden: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_steps, self.channels, self.size, self.hidden) < 1:
            raise UsageError(f"sizes must be positive, got {self}")

    @property
    def latent_bytes(self) -> int:
        """Bytes of the latent, float32."""
        return 4 * self.channels * self.size * self.size


class DenoiseJob:
    """A denoising loop that runs while it is released: a SourceWorkload and a DestinationWorkload.

    A destination is made with `held`.
    """

    def __init__(self, spec: DenoiseSpec, *, held: bool = False) -> None:
        rng = np.random.default_rng(spec.seed)
        self._spec = spec
        self._held = held
        self._step = 0
        shape = (spec.channels, spec.size, spec.size)
        self._latent: Latent = rng.standard_normal(shape, dtype=np.float32)
        self._inner = _weights(rng, spec.channels + 1, spec.hidden)
        self._outer = _weights(rng, spec.hidden, spec.channels)
        # Cosine schedule of Nichol and Dhariwal 2021, kept off both ends.
        angles = np.linspace(0.02, 0.98, spec.num_steps + 1) * np.pi / 2
        self._signal = np.cos(angles).astype(np.float32) ** 2

    @property
    def step(self) -> int:
        """Number of steps done."""
        return self._step

    @property
    def finished(self) -> bool:
        """True if all steps are done."""
        return self._step >= self._spec.num_steps

    @property
    def result(self) -> Latent:
        """A copy of the present latent, shape (channels, size, size), float32."""
        return self._latent.copy()

    def advance_step(self) -> bool:
        """Do one step and return True; return False if the job is held or finished."""
        if self._held or self.finished:
            return False
        before = self._signal[self._spec.num_steps - self._step]
        after = self._signal[self._spec.num_steps - self._step - 1]
        noise = self._noise()
        clean = (self._latent - np.sqrt(1 - before) * noise) / np.sqrt(before)
        self._latent = np.sqrt(after) * clean + np.sqrt(1 - after) * noise
        self._step += 1
        return True

    def _noise(self) -> Latent:
        """Estimate the noise in the latent with the network; same shape as the latent."""
        time = np.full_like(self._latent[:1], self._step / self._spec.num_steps)
        hidden = np.tanh(_convolved(np.concatenate((self._latent, time)), self._inner))
        estimate: Latent = np.tanh(_convolved(hidden, self._outer))
        return estimate

    # SourceWorkload.

    @property
    def position(self) -> Position:
        return Position(0, self._step)

    def delta(self, since: Position, until: Position, max_bytes: int) -> Delta | None:
        if since.state >= until.state:
            return None
        return StateDelta(since.state, self._step, (memoryview(self._latent.tobytes()),))

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        self._held = False

    # DestinationWorkload.

    @property
    def copied(self) -> Position:
        return Position(0, self._step)

    @property
    def ready(self) -> int:
        return self._step

    @property
    def settled(self) -> bool:
        return True

    def absorb(self, delta: Delta) -> None:
        if isinstance(delta, LogDelta) and delta.first == delta.upto:
            return  # the empty log of the source's first message
        if isinstance(delta, LogDelta) or delta.end > self._spec.num_steps:
            raise BadDeltaError(
                f"the delta must be a state of at most {self._spec.num_steps} steps"
            )
        if delta.num_bytes != self._spec.latent_bytes:
            raise BadDeltaError(
                f"the delta has {delta.num_bytes} bytes, a latent has {self._spec.latent_bytes}"
            )
        if delta.end <= self._step:
            return
        raw = np.frombuffer(b"".join(delta.parts), dtype=np.float32)
        self._latent = raw.reshape(self._latent.shape).copy()
        self._step = delta.end

    def advance(self) -> None:
        """Do nothing: before its release a destination has nothing to compute."""

    def complete(self, final: Final) -> bool:
        return self._step >= final.state


def _weights(rng: np.random.Generator, inputs: int, outputs: int) -> npt.NDArray[np.float32]:
    """Draw a 3 x 3 convolution, shape (outputs, inputs, 3, 3), that preserves the variance."""
    weights = rng.standard_normal((outputs, inputs, 3, 3), dtype=np.float32)
    return weights / np.float32(np.sqrt(9 * inputs))


def _convolved(planes: Latent, weights: npt.NDArray[np.float32]) -> Latent:
    """Apply a 3 x 3 convolution that wraps around: (inputs, h, w) to (outputs, h, w)."""
    shifts = itertools.product((1, 0, -1), repeat=2)
    shifted = [np.roll(planes, shift, axis=(1, 2)) for shift in shifts]
    stacked = np.stack(shifted, axis=1).reshape(-1, *planes.shape[1:])
    flat = weights.reshape(weights.shape[0], -1)
    convolved: Latent = np.tensordot(flat, stacked, axes=1)
    return convolved


def main() -> None:
    """Migrate a job after 20 of 50 steps and compare its result with a job that stayed."""
    spec = DenoiseSpec()
    at_source, at_destination = DenoiseJob(spec), DenoiseJob(spec, held=True)
    for _ in range(20):
        at_source.advance_step()
    print(f"host A: {at_source.step} of {spec.num_steps} steps done; the migration to B starts")

    source = MigrationSource(
        at_source, Position(0, 0), SourceOptions(RoundSettings(final_gap=1)), 0.0
    )
    destination = MigrationDestination(at_destination, DestinationOptions(), 0.0)
    while not destination.released:
        for message in source.advance(0.0):
            print(f"A -> B: {_described(message)}")
            answer = destination.receive(message, 0.0)
            print(f"B -> A: {type(answer).__name__} of step {answer.ready}")
            source.receive(answer, 0.0)
        steps = sum(at_source.advance_step() for _ in range(3))
        if steps:
            print(f"host A: did {steps} steps meanwhile, is at step {at_source.step}")

    print(f"host B: released at step {at_destination.step}, finishes the job")
    while at_destination.advance_step():
        pass
    stayed = DenoiseJob(spec)
    while stayed.advance_step():
        pass
    equal = at_destination.result.tobytes() == stayed.result.tobytes()
    print(f"result after {at_destination.step} steps: bitwise equal to a job that stayed: {equal}")


def _described(message: LogDelta | StateDelta | Final) -> str:
    match message:
        case LogDelta():
            return f"log, {message.payload.nbytes} bytes (a denoising loop has none)"
        case StateDelta():
            return f"state of step {message.end}, {message.num_bytes} bytes"
        case Final():
            return f"final position: step {message.state}; A holds"


if __name__ == "__main__":
    main()
