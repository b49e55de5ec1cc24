import errno
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from gpushare.core.keys import KeyRecord, KeyRing
from gpushare.core.login import Login
from gpushare.core.problems import ConfigErrors
from gpushare.edge.files import (
    KeyFile,
    LoginFile,
    StateInUse,
    asset,
    find_config,
    hold_state,
    make_private_dir,
    personal_config,
    read_secret,
    read_text,
    reference_text,
    set_mode,
    state_dir,
    write_text,
)

ROOT = Path(__file__).parents[3]


def record(number: int) -> KeyRecord:
    """Returns a key's record."""
    return KeyRecord(id=f"{number:06x}", name=f"p{number}", sha256=f"{number:064x}")


def add(key_file: KeyFile, number: int) -> KeyRing:
    """Adds one key to the file."""
    return key_file.edit(lambda ring: KeyRing((*ring.records, record(number))))


def mode(path: Path) -> int:
    """Returns the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    """A key file in a state directory that does not exist yet."""
    return KeyFile(tmp_path / "state")


def test_the_first_configuration_found_wins(tmp_path: Path) -> None:
    """An option, a variable, the person's file, in this order; a named file counts even if it is missing."""
    env = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": "/nowhere"}
    own = personal_config(env)
    assert find_config(None, env) in (None, Path("/etc/gpushare/config.toml"))
    own.parent.mkdir()
    own.touch()
    assert find_config(None, env) == own == tmp_path / "gpushare/config.toml"
    assert find_config(None, env | {"GPUSHARE_CONFIG": "/b"}) == Path("/b")
    assert find_config("/a", env | {"GPUSHARE_CONFIG": "/b"}) == Path("/a")


def test_the_configuration_of_the_current_folder_is_not_picked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standing in a checkout configures nothing."""
    (tmp_path / "config.toml").write_text("[queue]\nslots = 9\n")
    monkeypatch.chdir(tmp_path)
    assert find_config(None, {"HOME": str(tmp_path)}) in (None, Path("/etc/gpushare/config.toml"))


def test_the_state_directory_is_as_configured_else_the_services_else_the_persons() -> None:
    """The setting wins over systemd's directory, and that over the person's own."""
    env = {"STATE_DIRECTORY": "/var/lib/gpushare:/other", "HOME": "/home/erin"}
    assert state_dir("/srv/x", env) == Path("/srv/x")
    assert state_dir("", env) == Path("/var/lib/gpushare")
    assert state_dir("", {"HOME": "/home/erin"}) == Path("/home/erin/.local/state/gpushare")
    assert state_dir("", {"HOME": "/x", "XDG_STATE_HOME": "/s"}) == Path("/s/gpushare")


def test_shipped_files_are_found() -> None:
    """The reference configuration is there, and is TOML."""
    assert asset("config.toml").is_file()
    assert "server" in tomllib.loads(reference_text())


def test_a_text_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """A missing file, a folder and bytes that are no text have their reasons; a byte order mark is fine."""
    path = tmp_path / "c.toml"
    for said in ("No such file", "Is a directory", "not UTF-8"):
        with pytest.raises(ConfigErrors, match=said):
            read_text(path)
        if path.is_dir():
            path.rmdir()
            path.write_bytes(b"\xff\xfe")
        elif not path.exists():
            path.mkdir()
    path.write_bytes(b"\xef\xbb\xbfx = 1")
    assert read_text(path) == "x = 1"


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """The new content has the mode asked for, and nothing else stays behind."""
    path = tmp_path / "f"
    path.write_text("old")
    before = path.stat().st_ino
    write_text(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)
    assert path.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """When the new content cannot be written, the old one is untouched and no debris is left."""
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_key_file_is_no_keys(key_file: KeyFile) -> None:
    """Before the first key there is nothing, and that is no error."""
    assert key_file.load().records == ()
    assert not key_file.changed()


def test_a_key_file_is_made_without_a_look_at_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is made nothing may wait; who uses it goes into another thread."""
    looked: list[Path] = []
    monkeypatch.setattr(Path, "stat", looked.append)
    KeyFile(tmp_path)
    monkeypatch.undo()
    assert looked == []


def test_an_edit_is_private_and_holds_only_hashes(key_file: KeyFile) -> None:
    """The directory is 0700, the file 0600 with a comment on top, and what was written is read back."""
    add(key_file, 1)
    assert (mode(key_file.path.parent), mode(key_file.path)) == (0o700, 0o600)
    assert key_file.path.read_text().startswith("# Written by gpushare")
    assert KeyFile(key_file.path.parent).load().records == (record(1),)


def test_a_change_by_somebody_else_is_noticed(key_file: KeyFile) -> None:
    """The server sees an edit made by a command, once, and its removal too."""
    other = KeyFile(key_file.path.parent)
    add(other, 1)
    assert key_file.changed()
    key_file.load()
    assert not key_file.changed()
    add(other, 2)
    assert key_file.changed()


def test_a_change_of_the_mode_is_noticed(key_file: KeyFile) -> None:
    """A file that others might read is refused; once that is mended it counts, unchanged as it is."""
    add(key_file, 1)
    key_file.path.chmod(0o644)
    assert key_file.changed()
    with pytest.raises(ConfigErrors, match="others may read"):
        key_file.load()
    key_file.path.chmod(0o600)
    assert key_file.changed()
    assert key_file.load().records == (record(1),)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("")], ids=["gone", "empty"])
def test_a_file_that_is_saved_is_not_taken_for_none(
    key_file: KeyFile, spoil: Callable[[Path], object]
) -> None:
    """An editor leaves the file out or empty for a moment; what stays so counts at the second look."""
    add(key_file, 1)
    text = key_file.path.read_text()
    key_file.load()
    spoil(key_file.path)
    assert not key_file.changed()
    key_file.path.write_text(text)
    key_file.path.chmod(0o600)
    assert key_file.changed()
    assert key_file.load().records == (record(1),)
    spoil(key_file.path)
    assert [key_file.changed(), key_file.changed()] == [False, True]
    assert key_file.load().records == ()
    assert not key_file.changed()


def test_an_edit_on_a_full_disk_changes_nothing_and_says_why(
    key_file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who makes a key then reads what to do something about, and every other key stays good."""
    add(key_file, 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gpushare.edge.files.write_text", full)
    with pytest.raises(ConfigErrors, match="cannot be written \\(No space left on device\\)"):
        add(key_file, 2)
    assert key_file.load().records == (record(1),)


def test_an_edit_that_fails_changes_nothing(key_file: KeyFile) -> None:
    """If the change raises, or would write what cannot be read back, the file stays as it is."""
    add(key_file, 1)
    before = key_file.path.read_bytes()

    def fail(_: KeyRing) -> KeyRing:
        raise KeyError

    with pytest.raises(KeyError):
        key_file.edit(fail)
    with pytest.raises(ConfigErrors, match="expected a number above 0"):
        key_file.edit(lambda ring: ring.changed(["000001"], weight=-1.0))
    with pytest.raises(ConfigErrors, match="is the id of another key"):
        add(key_file, 1)
    assert key_file.path.read_bytes() == before


@pytest.mark.item(83)
@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620])
def test_a_key_file_that_others_can_open_is_refused(key_file: KeyFile, bits: int) -> None:
    """A key file that is not private is not used, and the remedy is told."""
    add(key_file, 1)
    key_file.path.chmod(bits)
    with pytest.raises(ConfigErrors, match="fix: chmod 600"):
        key_file.load()


@pytest.mark.item(83)
def test_a_key_file_that_is_a_link_or_no_file_is_refused(key_file: KeyFile, tmp_path: Path) -> None:
    """A link, a pipe or a folder in the place of the key file is not followed, opened or waited for."""
    add(key_file, 1)
    path = key_file.path
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigErrors, match="cannot be read"):
        key_file.load()
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigErrors, match="is not a plain file"):
        key_file.load()
    path.unlink()
    path.mkdir(0o700)
    with pytest.raises(ConfigErrors, match="Is a directory"):
        key_file.load()


def secret(folder: Path, *, configured: str = "", **env: str) -> bytes:
    """Returns the secret that is found."""
    return read_secret("session_secret", configured=configured, folder=folder, env=env)


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    """The first start makes it, private and long; every later one finds it."""
    made = secret(tmp_path / "state")
    path = tmp_path / "state" / "session_secret"
    assert len(made) == 64
    assert mode(path) == 0o600
    assert secret(tmp_path / "state") == made == path.read_bytes().strip()
    assert secret(tmp_path / "other") != made


def test_the_first_secret_found_wins(tmp_path: Path) -> None:
    """Systemd's credential, the configured file, the state directory; where one is given, none is made."""
    (tmp_path / "run").mkdir()
    credential, file = tmp_path / "run" / "session_secret", tmp_path / "mine"
    file.write_text("f" * 32 + "\n")
    file.chmod(0o600)
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path / "run")}
    assert secret(tmp_path / "state", configured=str(file), **env) == b"f" * 32
    credential.write_text("c" * 32)
    credential.chmod(0o440)
    assert secret(tmp_path / "state", configured=str(file), **env) == b"c" * 32
    assert not (tmp_path / "state").exists()


def test_a_secret_that_is_none_is_refused(tmp_path: Path) -> None:
    """Open to others, too short, a link, or not there: each with what to do, and never with its content."""
    path = tmp_path / "mine"
    with pytest.raises(ConfigErrors, match="cannot be read"):
        secret(tmp_path, configured=str(path))
    path.write_text("tooshort")
    path.chmod(0o600)
    with pytest.raises(ConfigErrors, match="at least 32 characters") as caught:
        secret(tmp_path, configured=str(path))
    assert "tooshort" not in str(caught.value)
    assert f"fix: openssl rand -hex 32 > {path}" in str(caught.value)
    (tmp_path / "session_secret").write_text("tooshort")
    with pytest.raises(ConfigErrors, match="hex 32 > the file that LoadCredential= names"):
        secret(tmp_path, CREDENTIALS_DIRECTORY=str(tmp_path))  # what systemd shows of it cannot be written
    path.write_text("x" * 32)
    path.chmod(0o644)
    with pytest.raises(ConfigErrors, match="chmod 600"):
        secret(tmp_path, configured=str(path))
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(ConfigErrors, match="cannot be read"):
        secret(tmp_path, configured=str(link))


def test_a_state_directory_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns it could exchange the keys in it; root alone may use everybody's."""
    make_private_dir(tmp_path / "state")
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path.stat().st_uid or 1) + 1)
    with pytest.raises(ConfigErrors, match="belongs to another user") as caught:
        make_private_dir(tmp_path / "state")
    assert "fix: run it as the owner or as root (sudo), or: chown" in str(caught.value)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    make_private_dir(tmp_path / "state")


HOLD = """
import sys
from pathlib import Path
from gpushare.edge.files import hold_state
with hold_state(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_state_directory_is_held_by_one_process(tmp_path: Path) -> None:
    """Another process is named; the end of it, however it comes, lets go."""
    state = tmp_path / "state"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StateInUse) as caught, hold_state(state):
            pass
        assert (caught.value.folder, caught.value.pid) == (state, str(other.pid))
        other.kill()
    with hold_state(state):
        assert (state / "server.lock").read_text() == f"{os.getpid()}\n"
        assert mode(state / "server.lock") == 0o600


def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A disk that takes no files is a problem with a path, not a traceback."""
    make_private_dir(tmp_path / "state")
    (tmp_path / "state" / "server.lock").mkdir()
    with pytest.raises(ConfigErrors, match=r"server.lock: cannot be written"), hold_state(tmp_path / "state"):
        pass


def test_settings_that_everybody_may_write_are_refused(tmp_path: Path) -> None:
    """Who can write them could send every prompt elsewhere."""
    path = tmp_path / "config.toml"
    path.touch()
    path.chmod(0o664)
    assert read_text(path) == ""
    path.chmod(0o666)
    with pytest.raises(ConfigErrors, match="everybody may write in it"):
        read_text(path)


def test_a_state_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Whoever can write in the directory could replace the keys."""
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigErrors, match="chmod go-w"):
        make_private_dir(tmp_path)
    (tmp_path / "f").touch()
    with pytest.raises(ConfigErrors, match="cannot be used as the state directory"):
        make_private_dir(tmp_path / "f")


EDITOR = """
import sys
from pathlib import Path
from gpushare.core.keys import KeyRecord, KeyRing
from gpushare.core.login import Login
from gpushare.edge.files import KeyFile
start, count = int(sys.argv[2]), int(sys.argv[3])
for number in range(start, start + count):
    record = KeyRecord(id=f"{number:06x}", name=f"p{number}", sha256=f"{number:064x}")
    KeyFile(Path(sys.argv[1])).edit(lambda ring: KeyRing((*ring.records, record)))
"""


def test_commands_at_the_same_time_lose_no_edit(key_file: KeyFile) -> None:
    """Four processes that each add keys to one file leave all of the keys in it."""
    command = [sys.executable, "-c", EDITOR, str(key_file.path.parent)]
    editors = [subprocess.Popen([*command, str(1000 * n), "8"]) for n in range(4)]
    assert [editor.wait(timeout=60) for editor in editors] == [0, 0, 0, 0]
    assert len({record.id for record in key_file.load().records}) == 32


def test_a_login_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    """Beside the person's configuration, made on the way; removed, it is gone."""
    file = LoginFile({"XDG_CONFIG_HOME": str(tmp_path / "new")})
    assert file.load() is None
    assert not file.remove()
    file.save(Login(url="http://a:1", key="gs_x"))
    assert file.path == tmp_path / "new/gpushare/client.toml"
    assert mode(file.path) == 0o600
    assert tomllib.loads(file.path.read_text()) == {"url": "http://a:1", "key": "gs_x"}
    assert file.load() == Login(url="http://a:1", key="gs_x")
    assert file.remove()
    assert file.load() is None


def test_a_login_that_cannot_be_kept_is_a_problem(tmp_path: Path) -> None:
    """With the path and the reason, not a traceback."""
    (tmp_path / "gpushare").write_text("in the way")
    file = LoginFile({"XDG_CONFIG_HOME": str(tmp_path)})
    with pytest.raises(ConfigErrors, match=r"client\.toml: cannot be written"):
        file.save(Login(url="http://a:1"))


def test_a_login_that_is_none_says_how_to_write_it(tmp_path: Path) -> None:
    """Without a word of what stands in it."""
    file = LoginFile({"XDG_CONFIG_HOME": str(tmp_path)})
    file.save(Login(url="http://a:1", key="gs_x"))
    file.path.write_text("key = 'gs_secret'")
    with pytest.raises(ConfigErrors, match="gpushare login http://HOST:PORT") as wrong:
        file.load()
    assert "secret" not in str(wrong.value)


def test_a_mode_is_set_and_no_link_is_followed(tmp_path: Path) -> None:
    """Of a file and of a folder; what a link leads to is somebody else's."""
    (tmp_path / "file").touch(0o644)
    (tmp_path / "folder").mkdir(0o775)
    (tmp_path / "link").symlink_to("file")
    set_mode(str(tmp_path / "file"), 0o600)
    set_mode(str(tmp_path / "folder"), 0o755)
    with pytest.raises(OSError, match="symbolic"):
        set_mode(str(tmp_path / "link"), 0o666)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder")]
    assert modes == [0o600, 0o755]
