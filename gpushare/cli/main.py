"""The tree of commands, and how their errors become sentences and exit codes."""

import shlex
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from gpushare import __version__
from gpushare.cli.terminal import ExitCode, Failure, note, report, report_problems
from gpushare.core.problems import ConfigErrors

# Imported on use: completing a word or asking for the version must not wait for a web server to load.
COMMANDS = {
    "serve": "gpushare.cli.serve",
    "demo": "gpushare.cli.demo",
    "init": "gpushare.cli.init",
    "install": "gpushare.cli.install",
    "uninstall": "gpushare.cli.uninstall",
    "doctor": "gpushare.cli.doctor",
    "status": "gpushare.cli.status",
    "top": "gpushare.cli.top",
    "queue": "gpushare.cli.queue",
    "models": "gpushare.cli.models",
    "connect": "gpushare.cli.connect",
    "login": "gpushare.cli.login",
    "logout": "gpushare.cli.login",
    "whoami": "gpushare.cli.login",
    "key": "gpushare.cli.key",
    "usage": "gpushare.cli.usage",
    "config": "gpushare.cli.config",
    "completion": "gpushare.cli.completion",
}


class _Tree(click.Group):
    """The commands of the table above; each module has its command under its own name."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Tree, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="gpushare", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", count=True, help="Twice: show where an unexpected error happened.")
def gpushare(verbose: int) -> None:
    """Share one GPU running Ollama: a key per person, a fair queue, a page that shows who is next."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = list(sys.argv[1:] if args is None else args)
    as_json = "--json" in words
    try:
        outcome = gpushare.main(words, prog_name="gpushare", standalone_mode=False)
    except Failure as failure:
        report(failure.code, failure.message, hint=failure.hint, as_json=as_json)
        return failure.exit_code
    except ConfigErrors as errors:
        report_problems(errors, as_json=as_json)
        return ExitCode.CONFIG
    except click.ClickException as error:
        if as_json:
            report("usage", error.format_message(), as_json=True)
        else:
            error.show()
        return error.exit_code
    except click.Abort:
        note("interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:
        if "-vv" in words or words.count("-v") > 1:
            raise
        hint = f"where it happened: gpushare -vv {shlex.join(words)}"
        report("unexpected", f"{type(error).__name__}: {error}", hint=hint, as_json=as_json)
        return ExitCode.FAILED
    return outcome if isinstance(outcome, int) else ExitCode.DONE
