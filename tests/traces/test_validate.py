"""The generator `azure_like` has the published statistics."""

import pytest

from traces.validate import Check, Service, popularity_checks, service_checks


@pytest.mark.parametrize("service", ["conv", "code"])
def test_a_generated_service_is_as_bursty_and_as_long_as_the_published_one(
    service: Service,
) -> None:
    checks = service_checks(service, range(60))

    assert [check for check in checks if not check.met] == []
    assert len(checks) == 12  # rate, 4 windows, 1 correlation, 2 x 3 length quantiles


def test_popularity_over_functions_is_the_published_one() -> None:
    checks = popularity_checks(range(1))

    assert [check for check in checks if not check.met] == []
    assert [check.published for check in checks] == [0.9242, 0.9949]


def test_a_poisson_stream_would_fail_the_check() -> None:
    relative = Check("index of dispersion, 60 s", published=16.4, ours=1.0, allowed=0.30)
    absolute = Check("autocorrelation", published=0.81, ours=0.0, allowed=0.1, relative=False)

    assert not relative.met
    assert not absolute.met
    assert Check("same", 16.4, 12.0, 0.30).met
    assert Check("same", 0.81, 0.72, 0.1, relative=False).met
