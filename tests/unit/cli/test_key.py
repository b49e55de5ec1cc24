import json
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpushare.cli.terminal import ExitCode
from gpushare.core.keys import KeyRecord, KeyRing, has_checksum, invited
from gpushare.edge.files import KeyFile

from .conftest import Run


def keys(home: Path) -> KeyRing:
    """Returns the keys in the person's own state directory."""
    return KeyFile(home / ".local/state/gpushare").load()


def only(home: Path) -> KeyRecord:
    """Returns the one key there is."""
    (record,) = keys(home).records
    return record


def test_add_prints_the_key_alone_on_stdout(run: Run, home: Path) -> None:
    """A new key is the one line on stdout, valid at once, and never in a file."""
    said = run("key", "add", "erin")
    secret = said.out.strip()
    assert (said.code, said.out.count("\n")) == (0, 1)
    assert has_checksum(secret)
    assert "Next: send it to erin; address: http://127.0.0.1:11435" in said.err
    now = datetime.now(UTC)
    assert keys(home).authenticate(secret, now=now, host="h").name == "erin"
    assert all(secret not in path.read_text() for path in home.rglob("*") if path.is_file())


def test_add_hands_over_a_link_where_others_reach_the_server(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an address that people elsewhere can type there is a one-time link, beside the result."""
    monkeypatch.setenv("GPUSHARE_SERVER__PUBLIC_URL", "https://gpu.example.lan/")
    said = run("key", "add", "erin")
    found = re.search(r"  https://gpu\.example\.lan/welcome/([\w-]{32})\n", said.err)
    assert found is not None
    assert said.out.count("\n") == 1
    now = datetime.now(UTC)
    assert invited(keys(home), found[1], now).name == "erin"
    assert found[1] not in KeyFile(home / ".local/state/gpushare").path.read_text()
    shown = run("key", "show", "erin").out
    assert "link_until" in shown
    assert str(only(home).link) not in shown
    rotated = run("key", "rotate", "erin")
    again = re.search(r"/welcome/([\w-]{32})\n", rotated.err)
    assert again is not None
    assert invited(keys(home), again[1], now).id == rotated.out.split("_")[1]


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("0.0.0.0:11435", f"http://{socket.gethostname()}:11435/welcome/"),
        ("192.0.2.7:11435", "http://192.0.2.7:11435/welcome/"),
        ("[2001:db8::7]:11435", "http://[2001:db8::7]:11435/welcome/"),
        ("127.0.0.1:11435", ""),
    ],
)
def test_a_link_has_the_address_that_others_type(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, listen: str, address: str
) -> None:
    """The machine's name stands for every address; a server for itself alone has no link to hand over."""
    monkeypatch.setenv("GPUSHARE_SERVER__LISTEN", listen)
    said = run("key", "add", "erin")
    assert address in said.err
    assert ("/welcome/" in said.err) is (address != "") is (only(home).link is not None)


def test_add_takes_all_terms(run: Run, home: Path) -> None:
    """Every term of a key can be given when it is made."""
    terms = "--role admin --class background --weight 2.5 --model qwen* --model gemma3 --max-waiting 4"
    said = run("key", "add", "Erin O", *terms.split(), "--max-running", "2", "--expires", "2030-01-02")
    assert said.code == 0
    record = only(home)
    assert (record.role, record.service, record.weight) == ("admin", "background", 2.5)
    assert (record.models, record.max_waiting, record.max_running) == (("qwen*", "gemma3"), 4, 2)
    assert record.expires == datetime(2030, 1, 2, tzinfo=UTC)


def test_expiry_may_be_a_length_of_time(run: Run, home: Path) -> None:
    """90d means 90 days from now."""
    run("key", "add", "erin", "--expires", "90d")
    record = only(home)
    assert record.expires == record.made + timedelta(days=90)


def test_a_second_key_of_a_person_belongs_to_the_same_owner(run: Run, home: Path) -> None:
    """With --owner a key shares the weight and limits of another."""
    run("key", "add", "erin")
    assert run("key", "add", "erin-laptop", "--owner", "erin").code == 0
    assert len({record.owner for record in keys(home).records}) == 1
    assert run("key", "add", "x", "--owner", "nobody").code == ExitCode.NOT_FOUND


@pytest.mark.parametrize("name", ["erin", "ERIN", "erIn"])
def test_a_name_is_not_given_twice(run: Run, home: Path, name: str) -> None:
    """The second person of a name is refused with two ways out."""
    run("key", "add", "erin")
    said = run("key", "add", name)
    assert (said.code, said.out) == (ExitCode.FAILED, "")
    assert "gpushare key rotate erin" in said.err
    assert "--owner erin" in said.err
    assert len(keys(home).records) == 1


@pytest.mark.parametrize(
    "args",
    [
        ("<b>",),
        ("a\u202eb",),
        ("\x1b[2J",),
        ("--", "-rf"),
        ("$(reboot)",),
        ("gs_000001_abc",),
        ("erin", "--weight", "0"),
        ("erin", "--weight", "nan"),
        ("erin", "--max-waiting", "-1"),
        ("erin", "--role", "root"),
        ("erin", "--expires", "soon"),
        ("erin", "--expires", "2020-01-01"),
        ("erin", "--model", ""),
        (),
    ],
)
def test_wrong_usage_makes_no_key(run: Run, home: Path, args: tuple[str, ...]) -> None:
    """A hostile name or an impossible term is refused, shown inert, and nothing is written."""
    said = run("key", "add", *args)
    assert said.code in (ExitCode.USAGE, ExitCode.CONFIG)
    assert said.out == ""
    assert "\x1b" not in said.err
    assert keys(home).records == ()


def test_list_shows_no_secret_and_no_ended_key(run: Run, home: Path) -> None:
    """The list is a table of live keys; --all shows the ended ones too."""
    said = run("key", "list")
    assert (said.code, said.out) == (0, "")
    assert "gpushare key add" in said.err
    secret = run("key", "add", "erin").out.strip()
    run("key", "add", "bob")
    run("key", "revoke", "bob", "--yes")
    listed = run("key", "list").out
    assert listed.split()[:8] == "NAME ID ROLE CLASS WEIGHT STATE CREATED EXPIRES".split()
    assert "erin" in listed
    assert "bob" not in listed
    assert "revoked" in run("key", "list", "--all").out
    everything = listed + run("key", "show", "erin").out + run("key", "list", "--json").out
    assert secret not in everything
    assert only_hash(home) not in everything


def only_hash(home: Path) -> str:
    """Returns the hash of the first key."""
    return keys(home).records[0].sha256


def test_json_is_one_document_with_its_schema(run: Run, home: Path) -> None:
    """Reading commands give one JSON document on stdout."""
    run("key", "add", "erin", "--weight", "2")
    for args in (("list",), ("show", "erin")):
        document = json.loads(run("key", *args, "--json").out)
        assert document["schema"] == "gpushare.keys/1"
        assert [(row["name"], row["weight"], row["state"]) for row in document["keys"]] == [
            ("erin", 2.0, "active")
        ]


@pytest.mark.parametrize("who", ["nobody", "$(x)", "../x", "\x1b[2J", "gs_000001_secretsecret"])
@pytest.mark.parametrize("command", ["show", "rotate", "disable", "revoke"])
def test_an_unknown_key_is_exit_6(run: Run, command: str, who: str) -> None:
    """Whatever the name is made of, it is data; a pasted key is not repeated."""
    said = run("key", command, "--", who)
    assert said.code == ExitCode.NOT_FOUND
    assert "\x1b" not in said.err
    assert "secretsecret" not in said.err


def test_an_error_under_json_is_json(run: Run) -> None:
    """With --json the reason of a failure is a document too."""
    said = run("key", "show", "nobody", "--json")
    assert said.out == ""
    assert json.loads(said.err)["error"]["code"] == "no-such-key"


def test_set_changes_only_what_is_given(run: Run, home: Path) -> None:
    """A term that is not named stays as it is; models and expiry can be taken back."""
    run("key", "add", "erin", "--weight", "2", "--model", "a", "--expires", "90d")
    assert run("key", "set", "erin", "--max-running", "1", "--name", "Erin B").code == 0
    record = only(home)
    assert (record.name, record.weight, record.models, record.max_running) == ("Erin B", 2.0, ("a",), 1)
    run("key", "set", record.id, "--any-model", "--expires", "never")
    assert (only(home).models, only(home).expires) == ((), None)
    assert run("key", "set", "Erin B").code == ExitCode.USAGE


def test_a_person_cannot_take_the_name_of_another(run: Run, home: Path) -> None:
    """Renaming is held to the same rule as adding."""
    run("key", "add", "erin")
    run("key", "add", "bob")
    assert run("key", "set", "bob", "--name", "Erin").code == ExitCode.FAILED
    assert {record.name for record in keys(home).records} == {"erin", "bob"}


def test_disable_and_enable(run: Run, home: Path) -> None:
    """A disabled key is off until it is enabled."""
    run("key", "add", "erin")
    run("key", "disable", "erin")
    assert only(home).disabled
    assert run("key", "rotate", "erin").code == ExitCode.FAILED
    run("key", "set", "erin", "--enable")
    assert not only(home).disabled


def test_rotate_prints_a_new_key_and_the_old_one_lives_a_day(run: Run, home: Path) -> None:
    """For a day both keys work and count as one person; then only the new one does."""
    old = run("key", "add", "erin").out.strip()
    new = run("key", "rotate", "erin").out.strip()
    now = datetime.now(UTC)
    ring = keys(home)
    assert ring.authenticate(old, now=now, host="h").owner == ring.authenticate(new, now=now, host="h").owner
    later = now + timedelta(hours=25)
    states = {record.id: record.state(later) for record in ring.records}
    assert states == {old[3:9]: "expired", new[3:9]: "active"}


def test_rotate_can_end_the_old_key_at_once(run: Run, home: Path) -> None:
    """With --keep 0 a leaked key is dead when its successor is there."""
    old = run("key", "add", "erin").out.strip()
    assert run("key", "rotate", "erin", "--keep", "0").code == 0
    assert not keys(home).active(old[3:9], datetime.now(UTC))
    assert run("key", "rotate", "erin", "--keep", "later").code == ExitCode.USAGE


def test_revoke_is_for_good(run: Run, home: Path) -> None:
    """All keys of the name end, no command brings them back, and the name is free again."""
    run("key", "add", "erin")
    run("key", "rotate", "erin")
    assert run("key", "revoke", "erin").code == 0  # no terminal: nothing to ask
    assert {record.state(datetime.now(UTC)) for record in keys(home).records} == {"revoked"}
    for command in (("set", "erin", "--enable"), ("rotate", "erin"), ("revoke", "erin")):
        assert run("key", *command).code == ExitCode.NOT_FOUND
    assert run("key", "add", "erin").code == 0
