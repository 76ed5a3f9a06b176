"""A group that imports a command when it is asked for, so that each waits for its own imports only."""

from collections.abc import Callable, Mapping

import typer
from typer._click.core import Command, Context
from typer.core import TyperGroup

Load = Callable[[], typer.Typer]
"""Imports one command, or a group of commands, and registers it on an app of its own."""


def lazy_group(loaders: Mapping[str, Load]) -> type[TyperGroup]:
    """A class of groups, for ``typer.Typer(cls=...)``: its eager commands, then *loaders* in their order."""

    class LazyGroup(TyperGroup):
        """Knows the commands' names; has a command once it was asked for."""

        def list_commands(self, ctx: Context) -> list[str]:
            """The names, eager ones first."""
            return [*super().list_commands(ctx), *loaders]

        def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
            """The command, imported now if need be; None if there is none of that name."""
            if cmd_name not in loaders:
                return super().get_command(ctx, cmd_name)
            command = typer.main.get_command(loaders[cmd_name]())
            command.name = cmd_name
            return command

    return LazyGroup
