"""Help of a command group under headings: some forty commands in one list are no list any more."""

from typing import Any

from typer.core import TyperGroup


class Grouped(TyperGroup):
    """A group whose help lists its commands under the panel that each was registered with."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel, in the order in which their first commands were registered."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        longest = max(map(len, commands))
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in commands.items():
            if command is not None:
                said = command.get_short_help_str(formatter.width - longest - 6)
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                panels.setdefault(panel, []).append((name.ljust(longest), said))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)
