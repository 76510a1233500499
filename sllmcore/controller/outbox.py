"""The outbox: the commands of the event being handled."""

from sllmcore.commands import Command


class CommandOutbox:
    """Collects commands in order. Their ids rise over the life of the controller."""

    __slots__ = ("_commands", "_num_issued")

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self._num_issued = 0

    def next_id(self) -> int:
        """Return the id of the next command."""
        self._num_issued += 1
        return self._num_issued

    def add(self, command: Command) -> None:
        """Append a command."""
        self._commands.append(command)

    def take(self) -> list[Command]:
        """Remove and return all commands."""
        commands, self._commands = self._commands, []
        return commands
