"""Command group that imports a command only when it is used."""

from collections.abc import Callable, Mapping

import typer
from typer._click.core import Command, Context
from typer.core import TyperGroup

Load = Callable[[], typer.Typer]
"""Imports a command or group of commands and returns its app."""


def lazy_group(loaders: Mapping[str, Load]) -> type[TyperGroup]:
    """Create a group class, for ``typer.Typer(cls=...)``, with the eager commands followed by *loaders*."""

    class LazyGroup(TyperGroup):
        """Command group with lazily imported commands."""

        def list_commands(self, ctx: Context) -> list[str]:
            """List the names of the commands, eager ones first."""
            return [*super().list_commands(ctx), *loaders]

        def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
            """Get a command, importing it if needed; None if there is no such command."""
            if cmd_name not in loaders:
                return super().get_command(ctx, cmd_name)
            command = typer.main.get_command(loaders[cmd_name]())
            command.name = cmd_name
            return command

    return LazyGroup
