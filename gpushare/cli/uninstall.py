"""``gpushare uninstall``: takes the service off this machine; settings and keys stay unless told to go."""

import shutil
from pathlib import Path

import click

from gpushare.cli.install import GPU_DROP_IN, LISTEN_DROP_IN, SYSTEMD, UNITS, is_our_command, user_exists
from gpushare.cli.layout import USER, Layout
from gpushare.cli.steps import Plan, Step, agree, remove_file, require_root, run
from gpushare.cli.terminal import note


@click.command
@click.option("--purge", is_flag=True, help="Remove settings, keys and records, and the user, too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan and change nothing.")
@click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), default=Path("/"), help="In this tree."
)
def uninstall(*, purge: bool, yes: bool, dry_run: bool, root: Path) -> None:
    """Remove the service; its settings and keys stay, unless --purge. Shows the plan first."""
    layout = Layout(root.resolve())
    require_root(live=layout.is_live, dry_run=dry_run)
    plan = make_plan(layout, purge=purge)
    if not agree(plan, yes=yes, dry_run=dry_run):
        return
    plan.carry_out()
    if not purge:
        note(f"Settings and keys stay: {layout.config.parent}, {layout.state}. To remove them: --purge")


def make_plan(layout: Layout, *, purge: bool) -> Plan:
    """Returns what has to go."""
    plan = Plan("This removes the service of gpushare", removes=True)
    units = [layout.units / name for name in (*UNITS, GPU_DROP_IN, LISTEN_DROP_IN)]
    managed = layout.is_live and SYSTEMD.exists() and any(path.exists() for path in units)
    link = layout.command
    plan.steps += [
        Step(text="the running service, and its start with the machine", needed=managed, do=_stop),
        *(_file(path) for path in units),
        Step(text="what systemd knows of it", needed=managed, do=lambda: run("systemctl", "daemon-reload")),
        Step(text=f"command {link}", needed=is_our_command(link), do=link.unlink),
        _folder(layout.home),
    ]
    if purge:
        plan.steps += [_folder(layout.config.parent), _folder(layout.state)]
    if purge and layout.is_live:
        plan.steps.append(Step(text=f"user {USER}", needed=user_exists(), do=lambda: run("userdel", USER)))
    return plan


def _stop() -> None:
    run("systemctl", "disable", "--now", "--quiet", *reversed(UNITS))


def _file(path: Path) -> Step:
    return Step(text=str(path), needed=path.exists(), do=lambda: remove_file(path))


def _folder(path: Path) -> Step:
    return Step(text=f"{path}, with all that is in it", needed=path.exists(), do=lambda: shutil.rmtree(path))
