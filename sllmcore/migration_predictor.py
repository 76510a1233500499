"""Migration time: `a * (t_in + t_out) + b`, with `t_out = d / t`.

A migrated request resumes after its KV cache has been recomputed from its tokens, which takes time
linear in their number. The controller does not receive each token. It estimates the number of
output tokens as `d / t`: the time `d` that the request has run, divided by the mean time `t` per
token. `a`, `b` and `t` start from a profile and are learnt per model; `a` and `b` are the
least-squares line through the finished migrations, of which older ones fade.

`LinearMigrationPredictor` is this predictor of the paper. But attention makes recomputation
superlinear, and short migrations should be predicted as accurately, in per cent, as long ones.
`QuadraticMigrationPredictor` therefore learns `s (a + b n + c n^2)` by relative errors. The factor
`s` is the present slowness of the servers. It is the same for every n, so a migration of any length
updates it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log

from sllmcore.curve import LearntCurve
from sllmcore.errors import UsageError
from sllmcore.protocols import RequestStateView

_SPAN_TOKENS = 2048.0  # OPT's context length: the profile is trusted up to here
_NEWEST_PACE = 0.3  # best of 0.2 to 0.7, on two cores with a speed that drifts by half in minutes
_LEAST_S = 1e-9


@dataclass(frozen=True, slots=True)
class MigrationProfile:
    """Initial estimates for a model, used until migrations have been measured.

    The defaults are for a 7B model in fp16 on an A40 by the roofline of `sllmsim.timing`: 7,000
    tokens/s of prefill, 27 ms per output token.
    """

    per_token_s: float = 0.00015  # a
    fixed_s: float = 0.05  # b
    output_token_s: float = 0.027  # t

    def __post_init__(self) -> None:
        if self.per_token_s < 0 or self.fixed_s < 0:
            raise UsageError(f"per_token_s (a) and fixed_s (b) must not be negative, got {self}")
        if self.output_token_s <= 0:
            raise UsageError(f"output_token_s must be positive, got {self.output_token_s}")


class _Line:
    """Least squares of y = a * x + b over fading samples, with a line as prior.

    The prior enters as two samples of weight `prior_weight` at 0 and `span` tokens, so that a
    single measurement does not tilt the line far.
    """

    __slots__ = ("_n", "_x", "_xx", "_xy", "_y")

    def __init__(self, slope: float, intercept: float, span: float, prior_weight: float) -> None:
        end = slope * span + intercept
        self._n = 2 * prior_weight
        self._x = prior_weight * span
        self._y = prior_weight * (intercept + end)
        self._xx = prior_weight * span * span
        self._xy = prior_weight * span * end

    def add(self, x: float, y: float, keep: float) -> None:
        self._n = self._n * keep + 1.0
        self._x = self._x * keep + x
        self._y = self._y * keep + y
        self._xx = self._xx * keep + x * x
        self._xy = self._xy * keep + x * y

    def at(self, x: float) -> float:
        spread = self._n * self._xx - self._x * self._x
        if spread <= 1e-9 * self._n * self._xx:
            return self._y / self._n
        slope = (self._n * self._xy - self._x * self._y) / spread
        return max(0.0, self._y / self._n + slope * (x - self._x / self._n))


class LinearMigrationPredictor:
    """The migration-time predictor of ServerlessLLM (OSDI'24, section 6), which learns per model.

    Args:
        default: The profile of models that are not in `profiles`.
        profiles: Profiles by model.
        smoothing: Weight of the newest sample, in (0, 1).
    """

    def __init__(
        self,
        default: MigrationProfile,
        profiles: Mapping[str, MigrationProfile] | None = None,
        smoothing: float = 0.1,
    ) -> None:
        if not 0 < smoothing < 1:
            raise UsageError(f"smoothing must be in (0, 1), got {smoothing}")
        self._default = default
        self._profiles = dict(profiles or {})
        self._smoothing = smoothing
        self._lines: dict[str, _Line] = {}
        self._output_token_s: dict[str, float] = {}

    def resume_s(self, request_state: RequestStateView, now_s: float) -> float:
        """Return the expected time to recompute the tokens of a running request elsewhere."""
        return self._line(request_state.request.model).at(self.context_tokens(request_state, now_s))

    def context_tokens(self, request_state: RequestStateView, now_s: float) -> float:
        """Return the expected number of input and output tokens of a running request."""
        request = request_state.request
        output_token_s = self._output_token_s.get(request.model)
        if output_token_s is None:
            output_token_s = self.profile(request.model).output_token_s
        output_tokens = (now_s - request_state.running_since_s) / output_token_s
        return request.input_tokens + output_tokens

    def observe_resume(self, model: str, num_tokens: int, resume_s: float) -> None:
        """Learn from a migration: `num_tokens` of context were recomputed in `resume_s`."""
        self._line(model).add(num_tokens, resume_s, keep=1.0 - self._smoothing)

    def observe_decode(self, model: str, output_tokens: int, decode_s: float) -> None:
        """Learn the time per output token: `decode_s` passed from the first to the last."""
        if output_tokens < 2 or decode_s <= 0:
            return
        newest_s = decode_s / (output_tokens - 1)
        known_s = self._output_token_s.get(model, newest_s)
        self._output_token_s[model] = known_s + self._smoothing * (newest_s - known_s)

    def profile(self, model: str) -> MigrationProfile:
        """Return the initial estimates for a model."""
        return self._profiles.get(model, self._default)

    def _line(self, model: str) -> _Line:
        line = self._lines.get(model)
        if line is None:
            profile = self.profile(model)
            # The prior weighs as much as two migrations.
            line = _Line(profile.per_token_s, profile.fixed_s, _SPAN_TOKENS, prior_weight=1.0)
            self._lines[model] = line
        return line


class _PacedCurve:
    """A curve times a pace, the fading geometric mean of measured over expected times."""

    __slots__ = ("_curve", "_has_samples", "_log_pace")

    def __init__(self, profile: MigrationProfile) -> None:
        self._curve = LearntCurve(profile.per_token_s, profile.fixed_s, _SPAN_TOKENS)
        self._log_pace = 0.0
        self._has_samples = False

    def add(self, num_tokens: float, took_s: float, keep: float) -> None:
        if self._has_samples:  # the prior is no measure of the usual pace
            usual_s = max(self._curve.at(num_tokens), _LEAST_S)
            newest = log(max(took_s, _LEAST_S) / usual_s)
            self._log_pace += _NEWEST_PACE * (newest - self._log_pace)
        self._has_samples = True
        self._curve.add(num_tokens, took_s, keep)

    def at(self, num_tokens: float) -> float:
        return exp(self._log_pace) * self._curve.at(num_tokens)


class QuadraticMigrationPredictor:
    """A predictor that learns `s (a + b n + c n^2)` by relative errors, per model.

    The number of output tokens is estimated as by `LinearMigrationPredictor`.

    Args:
        default: The profile of models that are not in `profiles`.
        profiles: Profiles by model.
        smoothing: Weight of the newest sample, in (0, 1).
    """

    def __init__(
        self,
        default: MigrationProfile,
        profiles: Mapping[str, MigrationProfile] | None = None,
        smoothing: float = 0.1,
    ) -> None:
        self._linear = LinearMigrationPredictor(default, profiles, smoothing)
        self._keep = 1.0 - smoothing
        self._curves: dict[str, _PacedCurve] = {}

    def resume_s(self, request_state: RequestStateView, now_s: float) -> float:
        """Return the expected time to recompute the tokens of a running request elsewhere."""
        num_tokens = self._linear.context_tokens(request_state, now_s)
        return self._curve(request_state.request.model).at(num_tokens)

    def observe_resume(self, model: str, num_tokens: int, resume_s: float) -> None:
        """Learn from a migration: `num_tokens` of context were recomputed in `resume_s`."""
        self._curve(model).add(num_tokens, resume_s, self._keep)

    def observe_decode(self, model: str, output_tokens: int, decode_s: float) -> None:
        """Learn the time per output token: `decode_s` passed from the first to the last."""
        self._linear.observe_decode(model, output_tokens, decode_s)

    def _curve(self, model: str) -> _PacedCurve:
        curve = self._curves.get(model)
        if curve is None:
            curve = self._curves[model] = _PacedCurve(self._linear.profile(model))
        return curve
