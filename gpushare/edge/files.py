"""TOML files in and out, where they are, and where the shipped files are.

Owns: the key file and a person's login on disk.  Rules: a file is replaced whole (temporary file, fsync,
rename), so a reader and a crash see the old one or the new one; an edit holds a lock from read to rename, so
two commands cannot lose each other's change; files that hold keys or their hashes are 0600 and refused when
others can read them.
"""

import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import tomli_w

import gpushare
from gpushare.core.keys import KeyRing, parse_keys
from gpushare.core.login import Login, parse_login
from gpushare.core.problems import unusable

SYSTEM_CONFIG = Path("/etc/gpushare/config.toml")
LOGIN_HEADER = "# Written by gpushare login; gpushare logout removes it.\n"
KEYS_HEADER = '# Written by gpushare; use "gpushare key". Holds no key, only their SHA-256.\n'
AS_OWNER = "fix: run it as the owner or as root (sudo)"
_SECRET_BYTES = 32  # least length of a secret, and what a new one is made of
_BIGGEST = 16_000_000  # bytes of a settings or key file: a device or a film is not read whole


def asset(name: str) -> Path:
    """Returns the path of a shipped file or folder: ``templates``, ``static``, ``config.toml``, ``systemd``.

    They lie beside the package in a wheel and above it in a checkout; looking next to the imported package
    is right for both, and for an editable install, whose copy in site-packages goes stale.
    """
    package = Path(gpushare.__file__).resolve().parent
    shipped = package / "_assets"
    return (shipped if shipped.is_dir() else package.parent) / name


def reference_text() -> str:
    """Returns the annotated reference configuration."""
    return asset("config.toml").read_text(encoding="utf-8")


def personal_config(env: Mapping[str, str]) -> Path:
    """Returns where a person's own configuration belongs."""
    base = env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or "~").expanduser() / ".config"
    return Path(base) / "gpushare" / "config.toml"


def find_config(given: str | None, env: Mapping[str, str]) -> Path | None:
    """Returns the configuration file: the first found wins, files are never merged.

    One that is named (by ``given`` or ``$GPUSHARE_CONFIG``) counts as found even if it does not exist, so
    that a misspelt name is an error and not a silent default.
    """
    if named := given or env.get("GPUSHARE_CONFIG"):
        return Path(named)
    return next((path for path in (personal_config(env), SYSTEM_CONFIG) if path.exists()), None)


def read_text(path: Path) -> str:
    """Returns the text of a settings file.

    Raises:
        ConfigErrors: it cannot be read, everybody may change it, or it is not UTF-8 text of a sensible size.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                raise unusable(path, "everybody may write in it", f"fix: chmod o-w {path}")
            return _decoded(file.read(_BIGGEST + 1), path)
    except OSError as error:
        raise unusable(path, f"cannot be read ({error.strerror})") from error


def write_text(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replaces a file whole: at every moment, the old or the new content is there.

    Written by root, it belongs to the owner of its folder, so that the service can still read what an admin
    edited.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            _give_to_owner(file.fileno(), path.parent)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def state_dir(configured: str, env: Mapping[str, str]) -> Path:
    """Returns where keys are kept: as configured, else systemd's state directory, else the person's own."""
    if named := configured or env.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(named).expanduser()
    base = env.get("XDG_STATE_HOME") or Path(env.get("HOME") or "~").expanduser() / ".local/state"
    return Path(base) / "gpushare"


def make_private_dir(path: Path) -> None:
    """Makes the state directory, 0700, if it is not there.

    Raises:
        ConfigErrors: it cannot be made, is somebody else's, or people other than its owner may write in it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise unusable(path, f"cannot be used as the state directory ({error.strerror})") from error
    if os.geteuid() not in (0, found.st_uid):
        raise unusable(
            path,
            "the state directory belongs to another user",
            f"{AS_OWNER}, or: chown {os.geteuid()} {path}",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise unusable(path, "others may write in the state directory", f"fix: chmod go-w {path}")


class StateInUse(Exception):
    """Another server uses the state directory; ``pid`` is its process, as it noted it."""

    def __init__(self, folder: Path, pid: str) -> None:
        super().__init__(folder, pid)
        self.folder = folder
        self.pid = pid


@contextmanager
def hold_state(folder: Path) -> Iterator[None]:
    """Keeps every other server off a state directory; the system lets go when the process ends, however.

    The lock is one that a child process does not inherit: no child that outlives the server holds it.

    Raises:
        ConfigErrors: as ``make_private_dir``.
        StateInUse: another server holds it.
    """
    make_private_dir(folder)
    path = folder / "server.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(path, f"cannot be written ({error.strerror})") from error
    try:
        _give_to_owner(handle, folder)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            noted = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            raise StateInUse(folder, noted) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def read_secret(name: str, *, configured: str, folder: Path, env: Mapping[str, str]) -> bytes:
    """Returns one of the server's own secrets: the first found of three.

    These are systemd's credential of this name, the file the configuration names, and a file in the state
    directory, which is made at its first use.

    Raises:
        ConfigErrors: the file cannot be read, others may read it, or it holds too little to be a secret.
        OSError: there is none, and none can be made.
    """
    credentials = env.get("CREDENTIALS_DIRECTORY")
    if credentials and (path := Path(credentials) / name).exists():
        return _secret_in(path, private=False)  # systemd gives it to this process alone
    if configured:
        return _secret_in(Path(configured).expanduser())
    path = folder / name
    if not path.exists():
        make_private_dir(folder)
        write_text(path, secrets.token_hex(_SECRET_BYTES) + "\n")
    return _secret_in(path)


def _secret_in(path: Path, *, private: bool = True) -> bytes:
    try:
        with open(path, "rb", opener=_open_plain) as file:
            if private:
                _check_private(os.fstat(file.fileno()), path)
            content = file.read(_BIGGEST).strip()
    except OSError as error:
        raise unusable(path, f"cannot be read ({error.strerror})") from error
    if len(content) < _SECRET_BYTES:
        target = path if private else "the file that LoadCredential= names"
        hint = f"fix: openssl rand -hex {_SECRET_BYTES} > {target}"
        raise unusable(path, f"must hold at least {_SECRET_BYTES} characters", hint)
    return content


_Stamp = tuple[int, int, int, int]
"""When a file or its mode last changed, its size, number and mode: what tells it from another one."""


class KeyFile:
    """``keys.toml`` in the state directory; made without a look at the disk, and for one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.toml"
        self._seen: _Stamp | None = None
        self._looked: _Stamp | None = None

    def load(self) -> KeyRing:
        """Returns the keys; no file is no keys.

        Raises:
            ConfigErrors: the file is unsafe, unreadable or wrong.
        """
        self._seen = self._looked = self._stamp()
        text = _read_private(self.path)
        return KeyRing() if text is None else parse_keys(text, source=str(self.path))

    def changed(self) -> bool:
        """Whether the file is another one than at the last ``load``.

        That it is gone or empty counts at the second look: an editor that saves leaves it so for a moment,
        and everybody's calls would end.
        """
        before, self._looked = self._looked, self._stamp()
        lasts = self._looked == before or (self._looked is not None and self._looked[1] > 0)
        return lasts and self._looked != self._seen

    def edit(self, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
        """Replaces the keys by what ``change`` makes of them, and returns them.

        Raises:
            ConfigErrors: as ``load``, or it cannot be written; nothing was changed then, nor when ``change``
                raises.
        """
        make_private_dir(self.path.parent)
        try:
            with self._lock():
                text = KEYS_HEADER + tomli_w.dumps(change(self.load()).tables())
                ring = parse_keys(text, source=str(self.path))  # never write what would be refused on reading
                write_text(self.path, text)
        except OSError as error:
            raise unusable(self.path, f"cannot be written ({error.strerror})") from error
        return ring

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Holds the lock file; the system lets go of it when the process ends, however it ends."""
        handle = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _give_to_owner(handle, self.path.parent)
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _stamp(self) -> _Stamp | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode


class LoginFile:
    """``client.toml`` beside a person's own configuration: what ``gpushare login`` keeps."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.path = personal_config(env).with_name("client.toml")

    def load(self) -> Login | None:
        """Returns the login, None where there is none.

        Raises:
            ConfigErrors: the file is unsafe, unreadable or wrong.
        """
        text = _read_private(self.path)
        if text is None:
            return None
        try:
            return parse_login(text)
        except ValueError as error:
            raise unusable(self.path, str(error), "write it anew: gpushare login http://HOST:PORT") from error

    def save(self, login: Login) -> None:
        """Writes the login in place of any other.

        Raises:
            ConfigErrors: it cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, LOGIN_HEADER + tomli_w.dumps({"url": login.url, "key": login.key}))
        except OSError as error:
            raise unusable(self.path, f"cannot be written ({error.strerror})") from error

    def remove(self) -> bool:
        """Removes the login, and says whether there was one.

        Raises:
            ConfigErrors: it cannot be removed.
        """
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise unusable(self.path, f"cannot be removed ({error.strerror})") from error
        return True


def _read_private(path: Path) -> str | None:
    """Returns the text of a file that only its owner can read, None where there is none.

    Raises:
        ConfigErrors: it is unsafe or unreadable.
    """
    try:
        with open(path, "rb", opener=_open_plain) as file:
            _check_private(os.fstat(file.fileno()), path)
            return _decoded(file.read(_BIGGEST + 1), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = AS_OWNER if isinstance(error, PermissionError) else ""
        raise unusable(path, f"cannot be read ({error.strerror})", hint) from error


def _open_plain(path: str, flags: int) -> int:
    """Opens without following a link, whose target others might write, and without waiting for a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _check_private(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise unusable(path, "is not a plain file")
    if found.st_mode & 0o077:
        raise unusable(path, "others may read or write it", f"fix: chmod 600 {path}")


def _decoded(content: bytes, path: Path) -> str:
    if len(content) > _BIGGEST:
        raise unusable(path, f"is larger than {_BIGGEST // 1_000_000} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unusable(path, "is not UTF-8 text") from error


def _give_to_owner(handle: int, folder: Path) -> None:
    owner = folder.stat()
    if os.geteuid() == 0 != owner.st_uid:
        os.fchown(handle, owner.st_uid, owner.st_gid)


def set_mode(path: str, mode: int) -> None:
    """Sets what may be done with a file or a folder; a link is not followed.

    Raises:
        OSError: it is a link, or somebody else's.
    """
    handle = _open_plain(path, os.O_RDONLY)
    try:
        os.fchmod(handle, mode)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
