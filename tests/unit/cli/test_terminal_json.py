"""Every command that has --json prints one document of a known shape."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click
import msgspec
import pytest
from msgspec import Struct, field

from gpushare.cli.main import gpushare
from gpushare.cli.terminal import ExitCode
from gpushare.core.about import Cancelled, Models, Unloaded, Whoami
from gpushare.core.controls import Controls
from gpushare.core.doctor import Report
from gpushare.core.document import Document
from gpushare.core.keys import KeyState
from gpushare.core.model import Role, Service
from gpushare.core.usage import Usage

from .conftest import Gateway, Run
from .test_connect import FACTS
from .test_login import WHOAMI
from .test_queue import ADMIN
from .test_status import BODY
from .test_usage import PATH as USED
from .test_usage import USAGE


class Key(Struct, kw_only=True, forbid_unknown_fields=True):
    """One key, without its hash."""

    id: str
    name: str
    owner: str
    role: Role
    service: Service = field(name="class")
    weight: float
    models: list[str]
    max_waiting: int
    max_running: int
    created: datetime | None
    not_before: datetime | None
    expires: datetime | None
    revoked: datetime | None
    disabled: bool
    link_until: datetime | None
    state: KeyState


class Keys(Struct, forbid_unknown_fields=True):
    schema: str
    keys: list[Key]


class Setting(Struct, forbid_unknown_fields=True):
    setting: str
    value: str
    origin: str


class Settings(Struct, forbid_unknown_fields=True):
    schema: str
    settings: list[Setting]


class Check(Struct, forbid_unknown_fields=True):
    schema: str
    path: str | None
    ok: bool
    warnings: list[str]


class Step(Struct, forbid_unknown_fields=True):
    say: str
    copy: str
    kind: str


class Tool(Struct, forbid_unknown_fields=True):
    slug: str
    name: str
    address: str
    key: str
    seen: str | None
    steps: list[Step]
    check: str
    quirk: str


class Tools(Struct, forbid_unknown_fields=True):
    schema: str
    tools: list[Tool]


SHAPES: dict[str, tuple[str, type[Struct]]] = {
    "status": ("gpushare.status/1", Document),
    "queue show": ("gpushare.status/1", Document),
    "queue pause": ("gpushare.controls/1", Controls),
    "queue resume": ("gpushare.controls/1", Controls),
    "queue drain": ("gpushare.controls/1", Controls),
    "queue cancel": ("gpushare.cancelled/1", Cancelled),
    "models list": ("gpushare.models/1", Models),
    "models unload": ("gpushare.unloaded/1", Unloaded),
    "whoami": ("gpushare.whoami/1", Whoami),
    "usage": ("gpushare.usage/1", Usage),
    "connect": ("gpushare.tools/1", Tools),
    "key list": ("gpushare.keys/1", Keys),
    "key show": ("gpushare.keys/1", Keys),
    "doctor": ("gpushare.doctor/1", Report),
    "config check": ("gpushare.config-check/1", Check),
    "config show": ("gpushare.config/1", Settings),
}
PROBLEMS = {"doctor"}  # nobody is where Ollama should be, which is its exit code
MORE = {"key show": ["erin"], "queue cancel": ["r_1"], "models unload": ["m"]}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yields every command with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif command is not None:
            yield " ".join((*path, name)), command


@pytest.fixture
def atlas(gateway: Gateway, home: Path, nobody: str, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway that answers every command of somebody with an empty home and without an Ollama."""
    assert home.is_dir()
    gateway.answer("/gpushare/v1/status", (200, BODY))
    gateway.answer("/gpushare/v1/whoami", (200, json.dumps(WHOAMI).encode()))
    gateway.answer(USED, (200, msgspec.json.encode(USAGE)))
    gateway.answer("/gpushare/v1/connecting", (200, json.dumps(FACTS).encode()))
    for path, body in ADMIN.items():
        gateway.answer(path, (200, json.dumps(body).encode()))
    monkeypatch.setenv("GPUSHARE_URL", gateway.url)
    monkeypatch.setenv("GPUSHARE_OLLAMA__URL", nobody)
    return gateway


def test_every_shape_is_known() -> None:
    """A command that gains --json is listed above, with what it prints."""
    found = {
        name
        for name, command in commands(gpushare)
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert found == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.usefixtures("atlas")
def test_json_is_one_document_of_its_shape(run: Run, name: str) -> None:
    """With the name of its schema, nothing else on stdout, and no field that is not described."""
    run("key", "add", "erin", "--weight", "2")
    said = run(*name.split(), *MORE.get(name, []), "--json")
    schema, shape = SHAPES[name]
    assert (said.code, said.err) == (ExitCode.PROBLEMS if name in PROBLEMS else 0, "")
    document = json.loads(said.out)
    assert document["schema"] == schema
    msgspec.convert(document, shape)
    assert "\x1b" not in said.out


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("status", "--url", "ftp://x", "--json"), "usage"),
        (("status", "--jason", "--json"), "usage"),
        (("key", "show", "nobody", "--json"), "no-such-key"),
    ],
)
def test_errors_are_documents_too(run: Run, args: tuple[str, ...], code: str) -> None:
    """On stderr, with a code, a sentence and a hint."""
    said = run(*args)
    error = json.loads(said.err)["error"]
    assert (error["code"], said.out) == (code, "")
    assert set(error) == {"code", "message", "hint"}
