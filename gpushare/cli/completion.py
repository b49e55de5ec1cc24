"""``gpushare completion``: the lines that make a shell complete our commands."""

import click
from click.shell_completion import get_completion_class


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell; put it into the shell's start-up file."""
    from gpushare.cli.main import gpushare

    maker = get_completion_class(shell)
    if maker is not None:
        click.echo(maker(gpushare, {}, "gpushare", "_GPUSHARE_COMPLETE").source())
