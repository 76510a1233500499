"""The stateless random numbers."""

from statistics import fmean

from sllmreal.engine.mixing import splitmix64, uniform


def test_splitmix_gives_the_published_numbers() -> None:
    # First output of the reference generator when its state is 0 and 1234567.
    assert splitmix64(0) == 0xE220A8397B1DCDAF
    assert splitmix64(1234567) == 6457827717110365317


def test_numbers_lie_in_the_unit_interval_and_spread_evenly() -> None:
    numbers = [uniform(seed, index) for seed in range(100) for index in range(100)]

    assert 0 <= min(numbers) < 1e-3
    assert 1 - 1e-3 < max(numbers) < 1
    assert abs(fmean(numbers) - 0.5) < 0.01  # standard error 0.003
    assert abs(fmean(number**2 for number in numbers) - 1 / 3) < 0.01


def test_neighbouring_seeds_and_indices_share_no_number() -> None:
    numbers = {uniform(seed, index) for seed in range(-50, 50) for index in range(100)}

    assert len(numbers) == 10_000


def test_any_seed_is_taken_modulo_two_to_the_sixty_four() -> None:
    assert uniform(-1, 3) == uniform(2**64 - 1, 3)
