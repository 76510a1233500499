"""The parts of a cold start: the transfer, the wait for it, and the rest."""

from sllmcore.cold_start import startup_s


def test_the_wait_for_the_turn_and_the_transfer_are_no_part_of_the_startup() -> None:
    rest_s = startup_s(
        issued_at_s=10.0, prepared_at_s=13.0, turn_at_s=20.0, moved_at_s=24.0, ready_at_s=25.5
    )

    assert rest_s == 3.0 + 1.5


def test_the_rounding_of_floats_makes_no_startup_negative() -> None:
    times = [0.1 + 0.2, 0.3]

    rest_s = startup_s(
        issued_at_s=0.0, prepared_at_s=0.0, turn_at_s=0.0, moved_at_s=times[0], ready_at_s=times[1]
    )

    assert rest_s == 0.0
