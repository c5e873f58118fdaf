"""The step that runs a script of the user's: see `tasks.command.spec`."""

from tasks.command.spec import CommandResult, CommandSpec
from tasks.command.variables import placed
from tasks.step import research_step

command = research_step(
    name="command", spec=CommandSpec, result=CommandResult, body="tasks.command.body"
)

__all__ = ["CommandResult", "CommandSpec", "command", "placed"]
