"""The commands of the event being handled, and the numbers they bear."""

from sllmcore.commands import Command


class CommandOutbox:
    """Collects commands in order. Numbers run on through the controller's life."""

    __slots__ = ("_commands", "_num_issued")

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self._num_issued = 0

    def next_id(self) -> int:
        self._num_issued += 1
        return self._num_issued

    def add(self, command: Command) -> None:
        self._commands.append(command)

    def take(self) -> list[Command]:
        """The commands added since the last `take`."""
        commands, self._commands = self._commands, []
        return commands
