"""The alarm that wakes a controller: set for the earliest wish, again when that is gone."""

from dataclasses import dataclass

from sllmcore.wakeup_alarm import WakeupAlarm


@dataclass
class Wishes:
    """A controller that wants to be woken at `at_s` and has `not_before_s` as its bound."""

    at_s: float | None
    not_before_s: float = 0.0

    @property
    def next_wakeup_s(self) -> float | None:
        return self.at_s

    @property
    def wakeup_not_before_s(self) -> float:
        return self.not_before_s


def test_the_timer_is_set_for_the_wake_up_and_moved_for_an_earlier_one() -> None:
    alarm = WakeupAlarm()

    assert alarm.set_again(Wishes(None)) is None
    assert alarm.set_again(Wishes(5.0)) == 5.0
    assert alarm.set_again(Wishes(6.0)) is None
    assert alarm.set_again(Wishes(4.0)) == 4.0


def test_a_timer_before_the_bound_stays_without_a_look_at_the_wake_up() -> None:
    alarm = WakeupAlarm()
    alarm.set_again(Wishes(5.0))

    assert alarm.set_again(Wishes(4.0, not_before_s=5.0)) is None


def test_a_timer_that_fires_wakes_the_controller_if_a_wake_up_is_due() -> None:
    alarm = WakeupAlarm()
    alarm.set_again(Wishes(5.0))

    assert alarm.fired(Wishes(5.0), 5.0)


def test_a_timer_whose_cause_has_gone_is_set_again() -> None:
    alarm = WakeupAlarm()
    alarm.set_again(Wishes(5.0))

    assert not alarm.fired(Wishes(7.0), 5.0)
    assert alarm.set_again(Wishes(7.0)) == 7.0
    alarm.clear()
    assert alarm.set_again(Wishes(8.0)) == 8.0
