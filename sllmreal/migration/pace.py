"""How fast a workload goes while it moves: what it would have taken to do a part again."""

from sllmreal.migration.messages import Position


class MigrantPace:
    """Seconds per unit of state, from when the move began to the last unit that was seen."""

    def __init__(self, began: Position, now_s: float) -> None:
        self._began = self._last = began
        self._began_at_s = now_s
        self.unit_s = 0.0  # until something was seen

    def observe(self, position: Position, now_s: float) -> None:
        if position.state > self._last.state:
            self._last = position
            self.unit_s = (now_s - self._began_at_s) / (position.state - self._began.state)
