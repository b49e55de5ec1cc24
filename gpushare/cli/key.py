"""``gpushare key``: who may use the GPU.

Rules: a key is shown once, on stdout, and is never taken from the command line; a name or an id is data,
whatever characters it has.
"""

import math
import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import click
import msgspec

from gpushare.cli.options import base_url, config_option, json_option, read_setup, shared_url
from gpushare.cli.terminal import ExitCode, Failure, emit, note, table
from gpushare.core import forms
from gpushare.core.config import Config
from gpushare.core.keys import (
    ENTROPY_BYTES,
    TOKEN_BYTES,
    KeyRecord,
    KeyRing,
    KeyState,
    NameTaken,
    NoSuchKey,
    digest,
    key_id,
    link_token,
    looks_like_key,
    new_key,
    offered,
)
from gpushare.core.keys.record import LIMIT_MOST, WEIGHT_MOST
from gpushare.core.keys.terms import Passed, until
from gpushare.core.model import Role, Service
from gpushare.core.people import name_problem
from gpushare.core.problems import printable
from gpushare.edge.files import KeyFile

ROTATION_KEEP = "24h"  # long enough for a person to change the key in all their tools


class Expiry(NamedTuple):
    """An answer to "until when": a time, or None for ever."""

    at: datetime | None


def _until(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Expiry | None:
    """Reads ``90d`` from now, a date, or ``never``."""
    if value is None:
        return None
    try:
        return Expiry(until(value, _now()))
    except Passed:
        raise click.BadParameter("this day has passed; to end a key: gpushare key revoke") from None
    except ValueError:
        raise click.BadParameter(
            'expected a time such as "90d", a date such as 2027-11-20, or never'
        ) from None


def _person(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Takes only a name that is safe to show."""
    if value is not None and (problem := name_problem(value)):
        raise click.BadParameter(problem)
    return value


def _duration(_ctx: click.Context, _param: click.Parameter, value: str) -> timedelta:
    try:
        return timedelta(seconds=forms.seconds(value))
    except ValueError:
        raise click.BadParameter('expected a time such as "24h", or 0') from None


def _finite(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """Lets no NaN and no infinity through: every comparison with NaN is false, click's range included."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("expected a number")
    return value


def _terms(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options for what a key may do; each is None where it was not given."""
    options = [
        click.option(
            "--role", type=click.Choice([role.value for role in Role]), help="What else the key may do."
        ),
        click.option(
            "--class",
            "service",
            type=click.Choice([service.value for service in Service]),
            help="Background keys go last.",
        ),
        click.option(
            "--weight",
            type=click.FloatRange(0, WEIGHT_MOST, min_open=True),
            callback=_finite,
            help="Share; 1 is usual.",
        ),
        click.option("--model", "models", multiple=True, help="Only this model; may end in *. Repeatable."),
        click.option(
            "--max-waiting", type=click.IntRange(0, LIMIT_MOST), help="Places in the queue; 0 is usual."
        ),
        click.option("--max-running", type=click.IntRange(0, LIMIT_MOST), help="Slots at once; 0: no limit."),
        click.option("--expires", callback=_until, help='"90d", a date, or "never".'),
    ]
    for option in reversed(options):
        command = option(command)
    return command


ref_argument = click.argument("who", metavar="NAME_OR_ID")


@click.group
def key() -> None:
    """Make, change and end keys.  A key is named by its person or its id."""


@key.command
@click.argument("name", callback=_person)
@_terms
@click.option(
    "--owner", metavar="NAME_OR_ID", help="A second key of this person: it shares weight and limits."
)
@config_option
def add(name: str, owner: str | None, config_path: str | None, **terms: object) -> None:
    """Make a key; it is shown once."""
    setup = read_setup(config_path)
    record, secret = make_record(name, **_given(terms))
    token = _new_link(setup.config)

    def change(ring: KeyRing) -> KeyRing:
        owned = _live(ring, owner)[0].owner if owner else record.id
        ring = ring.added(msgspec.structs.replace(record, owner=owned), record.made)
        return offered(ring, record.id, token, record.made) if token else ring

    _edit(setup.keys, change)
    hand_over(record, secret)
    _hand_link(setup.config, token, name)


@key.command(name="list")
@click.option("--all", "show_all", is_flag=True, help="Also keys that have ended.")
@config_option
@json_option
def list_keys(config_path: str | None, *, show_all: bool, as_json: bool) -> None:
    """List the keys: never the keys themselves, which are not kept."""
    now = _now()
    records = [r for r in read_setup(config_path).keys.load().records if show_all or not r.ended(now)]
    if as_json:
        emit("gpushare.keys/1", keys=[_document(record, now) for record in records])
    elif not records:
        note("Nobody has a key yet. Make one: gpushare key add NAME")
    else:
        headers = ("name", "id", "role", "class", "weight", "state", "created", "expires")
        click.echo(table(headers, [_row(record, now) for record in records], right=("weight",)))


@key.command
@ref_argument
@config_option
@json_option
def show(who: str, config_path: str | None, *, as_json: bool) -> None:
    """Show all that is known of a key, or of a person's keys."""
    now = _now()
    records = _find(read_setup(config_path).keys.load(), who)
    if as_json:
        emit("gpushare.keys/1", keys=[_document(record, now) for record in records])
        return
    for record in records:
        rows = [(name, _plain(value)) for name, value in _document(record, now).items()]
        click.echo(table(("setting", "value"), rows))


@key.command(name="set")
@ref_argument
@_terms
@click.option("--any-model", is_flag=True, help="All models again.")
@click.option("--name", callback=_person, help="Another name.")
@click.option("--enable", is_flag=True, help="Good again after key disable.")
@config_option
def set_key(
    who: str, name: str | None, config_path: str | None, *, any_model: bool, enable: bool, **terms: object
) -> None:
    """Change what a key may do, at once and without a restart."""
    changes = _given({**terms, "name": name})
    if any_model:
        changes["models"] = ()
    if enable:
        changes["disabled"] = False
    if not changes:
        raise click.UsageError("Nothing to change; gpushare key set --help lists what can be.")
    _change(config_path, who, changes, "changed")


@key.command
@ref_argument
@click.option(
    "--keep", callback=_duration, default=ROTATION_KEEP, show_default=True, help="Old key works on."
)
@config_option
def rotate(who: str, keep: timedelta, config_path: str | None) -> None:
    """Replace a key by a new one with the same terms; the old one works on for a day."""
    now = _now()
    setup = read_setup(config_path)
    secret = new_key(secrets.token_bytes(ENTROPY_BYTES))
    token = _new_link(setup.config)

    def change(ring: KeyRing) -> KeyRing:
        ring = ring.rotated(_newest(ring, who, now), secret, now=now, keep=keep)
        return offered(ring, key_id(secret), token, now) if token else ring

    record = setup.keys.edit(change).find(key_id(secret), now)[0]
    hand_over(record, secret)
    _hand_link(setup.config, token, record.name)
    note(f"The old key works until {now + keep:%Y-%m-%d %H:%M} UTC.")


@key.command
@ref_argument
@config_option
def disable(who: str, config_path: str | None) -> None:
    """Turn a key off for now; key set --enable turns it on again."""
    _change(config_path, who, {"disabled": True}, "disabled")


@key.command
@ref_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@config_option
def revoke(who: str, config_path: str | None, *, yes: bool) -> None:
    """End a key, or all keys of a name, for good; it acts within a second."""
    if not yes and sys.stdin.isatty():
        records = _live(read_setup(config_path).keys.load(), who)
        named = ", ".join(f"{record.name} ({record.id})" for record in records)
        click.confirm(f"Revoke the key of {named} for good?", abort=True, err=True)
    _change(config_path, who, {"revoked": _now()}, "revoked")


def make_record(name: str, **terms: Any) -> tuple[KeyRecord, str]:  # noqa: ANN401 - fields of KeyRecord
    """Returns a new key's record and the key itself."""
    secret = new_key(secrets.token_bytes(ENTROPY_BYTES))
    record = KeyRecord(id=key_id(secret), name=name, sha256=digest(secret), created=_now(), **terms)
    return record, secret


def hand_over(record: KeyRecord, secret: str) -> None:
    """Shows a new key: alone on stdout, so that a script can take it from there."""
    note(f"Key for {record.name} (shown this once):")
    click.echo(secret)


def _new_link(config: Config) -> str:
    """Returns what makes a one-time link, empty where nobody could open it."""
    return link_token(secrets.token_bytes(TOKEN_BYTES)) if shared_url(config) else ""


def _hand_link(config: Config, token: str, name: str) -> None:
    """Says what to do with a new key; who opens the link need not read the key in a chat."""
    if address := shared_url(config):
        note("One-time link to hand over instead (24 h, one opening, makes the key above void):")
        note(f"  {address}/welcome/{token}")
        note(f"Next: send the key or the link to {name}; address: {address}")
    else:
        note(f"Next: send it to {name}; address: {base_url(config)}")


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _given(terms: dict[str, object]) -> dict[str, Any]:
    """Returns the options that were given, as fields of a record."""
    given = {name: value for name, value in terms.items() if value not in (None, ())}
    if isinstance(expiry := given.get("expires"), Expiry):
        given["expires"] = expiry.at
    if "role" in given:
        given["role"] = Role(str(given["role"]))
    if "service" in given:
        given["service"] = Service(str(given["service"]))
    return given


def _change(config_path: str | None, who: str, changes: dict[str, Any], verb: str) -> None:
    """Changes the live keys of a name or an id, and says which ones."""
    touched: list[KeyRecord] = []

    def change(ring: KeyRing) -> KeyRing:
        touched[:] = _live(ring, who)
        if "name" in changes:
            ring.check_name(changes["name"], touched[0].owner, _now())
        return ring.changed([record.id for record in touched], **changes)

    _edit(read_setup(config_path).keys, change)
    for record in touched:
        note(f"{record.name} ({record.id}): {verb}")


def _edit(keys: KeyFile, change: Callable[[KeyRing], KeyRing]) -> None:
    """Edits the key file; a name that is taken comes with the ways out."""
    try:
        keys.edit(change)
    except NameTaken as taken:
        raise Failure(
            "name-taken",
            f"{taken} has a key, and this is the same name or reads like it",
            exit_code=ExitCode.FAILED,
            hint=f"replace that key: gpushare key rotate {taken}    "
            f"or make a second one: gpushare key add {taken}-2 --owner {taken}",
        ) from taken


def _find(ring: KeyRing, who: str) -> Sequence[KeyRecord]:
    try:
        return ring.find(who, _now())
    except NoSuchKey:
        shown = "that" if looks_like_key(who) else f'"{printable(who)}"'
        hint = "name a key by its person or its 6-digit id, never by itself" if looks_like_key(who) else ""
        raise Failure(
            "no-such-key",
            f"no key has the name or id {shown}",
            exit_code=ExitCode.NOT_FOUND,
            hint=hint or "who has one: gpushare key list --all",
        ) from None


def _live(ring: KeyRing, who: str) -> Sequence[KeyRecord]:
    """Returns the keys of a name or id that were not revoked."""
    records = [record for record in _find(ring, who) if not record.revoked]
    if not records:
        raise Failure(
            "revoked",
            f'the key of "{printable(who)}" was revoked',
            exit_code=ExitCode.NOT_FOUND,
            hint="make a new one: gpushare key add NAME",
        )
    return records


def _newest(ring: KeyRing, who: str, now: datetime) -> KeyRecord:
    records = _live(ring, who)
    newest = max(records, key=lambda record: record.made)
    if newest.state(now) in (KeyState.DISABLED, KeyState.EXPIRED):
        raise Failure(
            "not-active",
            f"the key of {newest.name} {newest.why(now)}",
            exit_code=ExitCode.FAILED,
            hint=f"first: gpushare key set {newest.id} --enable --expires 90d",
        )
    return newest


def _document(record: KeyRecord, now: datetime) -> dict[str, object]:
    fields = msgspec.to_builtins(record, builtin_types=(datetime,))
    del fields["sha256"], fields["link"], fields["sign_outs"]
    return {**fields, "state": record.state(now)}


def _row(record: KeyRecord, now: datetime) -> tuple[str, ...]:
    weight = f"{record.weight:g}"
    dates = (_date(record.created), _date(record.expires) or "never")
    return (record.name, record.id, record.role, record.service, weight, record.state(now), *dates)


def _date(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at else ""


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "all"
    return "" if value is None else str(value)
