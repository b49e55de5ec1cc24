"""``gpushare doctor``: what is wrong here, and what to do about it."""

import asyncio
import os

import click

from gpushare.cli.client import find_server
from gpushare.cli.options import Setup, color_option, config_option, json_option, read_setup
from gpushare.cli.terminal import ExitCode, colored, emit_document, note
from gpushare.core.doctor import Facts, Finding, Level, Report, examine, failed, repairs, report, summary
from gpushare.core.problems import ConfigErrors, printable
from gpushare.edge.files import set_mode

COLORS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command
@config_option
@click.option("--key-file", metavar="FILE", help="A file that holds your key, to ask at server.public_url.")
@click.option("--fix", is_flag=True, help="Take away what others may do with the server's files.")
@json_option
@color_option
def doctor(config_path: str | None, key_file: str | None, color: str, *, fix: bool, as_json: bool) -> int:
    """Check Ollama, the GPU, the settings, the port, the files and the machine; each with a remedy.

    Run it as the service's user or as root: others see less.
    """
    try:
        setup = read_setup(config_path)
    except ConfigErrors as errors:
        found = report(failed("config", problem, "gpushare config check") for problem in errors.problems)
    else:
        facts = _facts(setup, key_file)
        if fix and _repair(facts):
            facts = _facts(setup, key_file)
        found = examine(facts)
    if as_json:
        emit_document(found)
    else:
        click.echo(render(found), color=colored(color))
    return ExitCode.PROBLEMS if found.problems else ExitCode.DONE


def render(found: Report) -> str:
    """Returns the findings, one below the other, each with its remedy, and their counts."""
    lines = [line for finding in found.findings for line in _lines(finding)]
    return "\n".join([*lines, summary(found)])


def _lines(finding: Finding) -> list[str]:
    level = click.style(f"{finding.level:<4}", fg=COLORS[finding.level])
    lines = [f"{level}  {finding.subject:<10}  {printable(finding.text)}"]
    return [*lines, f"{'':18}fix: {printable(finding.fix)}"] if finding.fix else lines


def _facts(setup: Setup, key_file: str | None) -> Facts:
    from gpushare.app.examination import Subject, examination

    public = setup.config.server.public_url
    subject = Subject(
        config=setup.config,
        source=str(setup.path or "no file, built-in defaults"),
        key_file=setup.keys,
        key=find_server(public, key_file, None, os.environ).key if public else None,
    )
    return asyncio.run(examination(subject))


def _repair(facts: Facts) -> bool:
    """Changes the modes that let others in, says so, and returns whether there were any."""
    changed = list(repairs(facts))
    for path, mode in changed:
        try:
            set_mode(path, mode)
        except OSError as error:
            note(f"not done: chmod {mode:03o} {printable(path)} ({error.strerror})")
        else:
            note(f"done: chmod {mode:03o} {printable(path)}")
    return bool(changed)
