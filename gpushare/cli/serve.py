"""``gpushare serve``: the gateway in the foreground."""

import os

import click

from gpushare.cli.options import Setup, config_option, read_setup
from gpushare.cli.terminal import ExitCode, Failure, note
from gpushare.core.config import Config, warnings
from gpushare.core.keys import KeyRing
from gpushare.core.problems import ConfigErrors
from gpushare.edge.files import KeyFile, StateInUse
from gpushare.edge.systemd import take_notifier


@click.command
@config_option
@click.option("-l", "--listen", metavar="HOST:PORT", help="Listen here instead of server.listen.")
def serve(config_path: str | None, listen: str | None) -> None:
    """Run the gateway until it is told to stop."""
    manager = take_notifier(dict(os.environ), os.getpid())
    try:
        _serve(config_path, listen)
    except Failure as failure:
        manager.failed(f"It does not start: {failure.message}")
        raise
    except ConfigErrors as errors:
        manager.failed(f"It does not start: {errors.briefly()[0]}")
        raise


def _serve(config_path: str | None, listen: str | None) -> None:
    setup = read_setup(config_path, listen=listen)
    for warning in warnings(setup.config):
        note(f"warning: {warning}")
    if not setup.keys.load().records:
        note("Nobody has a key yet. Make the first one: gpushare key add NAME --role admin")
    from gpushare import app

    try:
        app.serve(setup.config, setup.keys, lambda: _read_again(setup, config_path, listen))
    except StateInUse as error:
        raise Failure(
            "already-running",
            f"another gpushare (process {error.pid}) uses the state directory {error.folder}",
            exit_code=ExitCode.FAILED,
            hint="one server for each state directory: state.dir in the configuration",
        ) from error
    except OSError as error:
        where = setup.config.server.listen
        raise Failure(
            "cannot-listen",
            f"cannot listen on {where} ({error.strerror or error})",
            exit_code=ExitCode.FAILED,
            hint="another address: gpushare serve --listen HOST:PORT",
        ) from error


def _read_again(setup: Setup, config_path: str | None, listen: str | None) -> tuple[Config, KeyRing]:
    """Returns settings and keys as they are on disk now, from the files that were used at the start.

    A file that was found and is gone now is a mistake, not a wish for the defaults.

    Raises:
        ConfigErrors: either of them cannot be used.
    """
    found = read_setup(str(setup.path) if setup.path else config_path, listen=listen)
    return found.config, KeyFile(setup.keys.path.parent).load()  # the watched one notes what it has seen
