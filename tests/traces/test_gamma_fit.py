import numpy as np
import pytest
from scipy.stats import gamma

from traces.errors import TraceError
from traces.gamma_fit import fit_gamma
from traces.seeding import generator


@pytest.mark.parametrize("shape", [0.05, 0.3, 1.0, 4.0, 80.0])
def test_the_fit_is_the_one_scipy_finds(shape: float) -> None:
    gaps = generator(1, "fit").gamma(shape, 2.0, 400) + 1e-6

    fit = fit_gamma(gaps)

    expected, _, scale = gamma.fit(gaps, floc=0)
    assert fit.cv == pytest.approx(expected**-0.5, rel=1e-3)
    assert fit.rate == pytest.approx(1 / (expected * scale), rel=1e-3)


def test_equal_gaps_have_no_variation() -> None:
    fit = fit_gamma(np.array([0.5, 0.5, 0.5]))

    assert (fit.rate, fit.cv) == (2.0, 0.0)


@pytest.mark.parametrize("gaps", [[1.0], [], [1.0, 0.0], [1.0, -1.0]])
def test_too_few_or_empty_gaps_are_an_error(gaps: list[float]) -> None:
    with pytest.raises(TraceError, match="two gaps or more, all positive"):
        fit_gamma(np.array(gaps))
