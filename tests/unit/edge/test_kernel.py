"""What the kernel says, of this machine and as other machines write it."""

import os
import resource
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from gpushare.core.doctor.facts import Entry, Listener, Process
from gpushare.edge import kernel

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TAIL = "00000000:0000 00:00000000 00000000     0        0"


def row(address: str, port: int, inode: int, state: str = "0A") -> str:
    """Returns a line of a table of sockets."""
    return f"   0: {address}:{port:04X} 00000000:0000 {state} {TAIL} {inode} 1 0 100 0 0 10 0\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A made-up /proc without anything in it."""
    (tmp_path / "self/net").mkdir(parents=True)
    return tmp_path


def test_a_listener_of_this_process_is_found() -> None:
    """With its address, and with this process as its holder."""
    with socket.create_server(("127.0.0.1", 0)) as mine:
        port = mine.getsockname()[1]
        (found,) = kernel.listeners(port)
        assert (found.address, found.port) == ("127.0.0.1", port)
        assert os.getpid() in [holder.pid for holder in found.holders]
        with socket.create_connection(("127.0.0.1", port)):
            assert len(kernel.listeners(port)) == 1  # a connection is no listener
    assert kernel.listeners(port) == ()


def test_addresses_are_written_as_people_do(proc: Path) -> None:
    """Of both families; the kernel writes words of four bytes."""
    (proc / "self/net/tcp").write_text(
        HEAD + row("0100007F", 11434, 1) + row("00000000", 11434, 2) + row("0500A8C0", 80, 3)
    )
    (proc / "self/net/tcp6").write_text(
        HEAD
        + row("00000000000000000000000000000000", 11434, 4)
        + row("00000000000000000000000001000000", 11434, 5)
        + row("00000000000000000000000002000000", 11434, 6, state="01")
    )
    assert [found.address for found in kernel.listeners(11434, proc)] == ["127.0.0.1", "0.0.0.0", "::", "::1"]
    assert kernel.listeners(80, proc) == (Listener(address="192.168.0.5", port=80),)


def test_a_process_that_may_not_be_looked_into_is_left_out(proc: Path) -> None:
    """Its socket is there all the same; several holders of one socket are all named."""
    (proc / "self/net/tcp").write_text(HEAD + row("0100007F", 80, 77))
    for pid, name in ((1, "systemd"), (812, "node")):
        (proc / f"{pid}/fd").mkdir(parents=True)
        (proc / f"{pid}/fd/5").symlink_to("socket:[77]")
        (proc / f"{pid}/fd/6").symlink_to("/dev/null")
        (proc / f"{pid}/comm").write_text(f"{name}\n")
    (proc / "900").mkdir()
    (proc / "version").touch()
    (found,) = kernel.listeners(80, proc)
    assert set(found.holders) == {Process(pid=1, name="systemd"), Process(pid=812, name="node")}


def test_own_addresses(proc: Path) -> None:
    """Those that others could reach: of IPv4 from the table of routes, of IPv6 by their scope."""
    (proc / "self/net/fib_trie").write_text(
        "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n"
        "           |-- 127.0.0.1\n              /32 host LOCAL\n"
        "           |-- 192.168.1.5\n              /32 host LOCAL\n"
        "        |-- 192.168.1.255\n           /32 link BROADCAST\n"
        "Local:\n           |-- 192.168.1.5\n              /32 host LOCAL\n"
    )
    (proc / "self/net/if_inet6").write_text(
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n"
        "fd000000000000000000000000000002 04 40 00 82     eth0\n"
    )
    assert kernel.own_addresses(proc) == ("192.168.1.5", "fd00::2")


def test_own_addresses_of_this_machine() -> None:
    """Whatever they are, they are addresses and none is loopback."""
    assert [one for one in kernel.own_addresses() if ip_address(one).is_loopback] == []


def test_where_nothing_can_be_seen_nothing_is_known(proc: Path) -> None:
    """No error, and no guess."""
    nothing = proc / "gone"
    assert kernel.listeners(80, nothing) == ()
    assert kernel.own_addresses(nothing) == ()
    assert kernel.environment(1, nothing) is None
    assert kernel.descriptors(1, nothing) is None
    assert kernel.entry(nothing) is None
    assert kernel.inside(nothing) == ()


def test_an_environment(proc: Path) -> None:
    """As the process was started; values may hold an equals sign."""
    (proc / "7").mkdir()
    (proc / "7/environ").write_text("OLLAMA_HOST=127.0.0.1\0A=b=c\0odd\0OLLAMA_NUM_PARALLEL=2\0")
    assert kernel.environment(7, proc) == {
        "OLLAMA_HOST": "127.0.0.1",
        "A": "b=c",
        "OLLAMA_NUM_PARALLEL": "2",
    }


def test_descriptors(proc: Path) -> None:
    """The soft limit of a process, which is what it meets; that of this one without asking for any."""
    (proc / "7").mkdir()
    (proc / "7/limits").write_text(
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max open files            1024                 524288               files     \n"
    )
    assert kernel.descriptors(7, proc) == 1024
    (proc / "7/limits").write_text(
        "Max open files            unlimited            unlimited            files\n"
    )
    assert kernel.descriptors(7, proc) is None
    mine = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert kernel.descriptors(None) == kernel.descriptors(os.getpid()) == mine


def test_a_disk_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    """Also before the state directory is made."""
    found = kernel.disk(tmp_path / "a/b")
    assert found is not None
    assert 0 < found.free <= found.total


def test_a_disk_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """P27: it is not known, and no error; a name that no disk takes stands for a disk that fails."""
    assert kernel.disk(tmp_path / ("x" * 300)) is None


def test_an_entry_is_the_file_itself(tmp_path: Path) -> None:
    """A link is not followed: what it leads to is somebody else's."""
    secret = tmp_path / "secret"
    secret.touch(0o640)
    secret.chmod(0o640)
    assert kernel.entry(secret, allowed=0o070) == Entry(
        path=str(secret), mode=0o640, owner=os.getuid(), allowed=0o070
    )
    (tmp_path / "link").symlink_to("/etc/shadow")
    assert kernel.entry(tmp_path / "link") is None
    (tmp_path / "folder").mkdir()
    assert kernel.inside(tmp_path) == (secret,)


def test_the_newest_file(tmp_path: Path) -> None:
    """Whichever folder it lies in."""
    (tmp_path / "a").mkdir()
    for name, at in (("a/old.py", 100), ("new.py", 200), ("newer.txt", 300)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    assert kernel.newest(tmp_path) == 200
