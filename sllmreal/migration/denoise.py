"""An iterative job that migrates by its state alone: a diffusion-style denoising loop.

A latent x of shape (channels, size, size) starts as noise and is denoised in `num_steps` steps of
the deterministic sampler of denoising diffusion implicit models (Song et al. 2021, equation 12 with
sigma = 0):

    x0   = (x - sqrt(1 - a[t]) e(x, t)) / sqrt(a[t])
    x'   = sqrt(a[t-1]) x0 + sqrt(1 - a[t-1]) e(x, t)

e is a small convolutional network of fixed random weights instead of a trained one: real
arithmetic, in which each bit of the result depends on each step. There is no log to replay. The
state is small, so that each delta is the whole latent: a few tens of KiB.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sllmcore.errors import UsageError
from sllmreal.migration.errors import BadDeltaError
from sllmreal.migration.messages import Delta, Final, LogDelta, Position, StateDelta

Latent = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DenoiseSpec:
    """The parameters of a job, which determine its result."""

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
    """A job that runs while it is released: a `SourceWorkload` and a `DestinationWorkload`.

    Args:
        held: Made as a destination, to be built up.
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
        """Steps done."""
        return self._step

    @property
    def finished(self) -> bool:
        """True if all steps are done."""
        return self._step >= self._spec.num_steps

    @property
    def result(self) -> Latent:
        """The present latent, shape (channels, size, size), float32."""
        return self._latent.copy()

    def advance_step(self) -> bool:
        """Do a step, unless held or finished. Return True if one was done."""
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
        """Return the network's estimate of the noise in the latent, of its shape."""
        time = np.full_like(self._latent[:1], self._step / self._spec.num_steps)
        hidden = np.tanh(_convolved(np.concatenate((self._latent, time)), self._inner))
        estimate: Latent = np.tanh(_convolved(hidden, self._outer))
        return estimate

    # `SourceWorkload`.

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

    # `DestinationWorkload`.

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
            return  # an empty delta
        if isinstance(delta, LogDelta) or delta.end > self._spec.num_steps:
            raise BadDeltaError(f"the delta is no state of a job of {self._spec.num_steps} steps")
        if delta.num_bytes != self._spec.latent_bytes:
            raise BadDeltaError(
                f"a latent has {self._spec.latent_bytes} bytes, got {delta.num_bytes}"
            )
        if delta.end <= self._step:
            return
        raw = np.frombuffer(b"".join(delta.parts), dtype=np.float32)
        self._latent = raw.reshape(self._latent.shape).copy()
        self._step = delta.end

    def advance(self) -> None:
        """Do nothing: no step is done before the release."""

    def complete(self, final: Final) -> bool:
        return self._step >= final.state


def _weights(rng: np.random.Generator, inputs: int, outputs: int) -> npt.NDArray[np.float32]:
    """Return weights of a 3 x 3 convolution that keeps the variance: (outputs, inputs, 3, 3)."""
    weights = rng.standard_normal((outputs, inputs, 3, 3), dtype=np.float32)
    return weights / np.float32(np.sqrt(9 * inputs))


def _convolved(planes: Latent, weights: npt.NDArray[np.float32]) -> Latent:
    """Return a 3 x 3 convolution that wraps around: (inputs, h, w) to (outputs, h, w)."""
    shifts = itertools.product((1, 0, -1), repeat=2)
    shifted = [np.roll(planes, shift, axis=(1, 2)) for shift in shifts]
    stacked = np.stack(shifted, axis=1).reshape(-1, *planes.shape[1:])
    flat = weights.reshape(weights.shape[0], -1)
    convolved: Latent = np.tensordot(flat, stacked, axes=1)
    return convolved
