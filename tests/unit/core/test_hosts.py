"""Names that are answered without a key, origins that may call, and who stands behind a proxy."""

import pytest

from gpushare.core.hosts import (
    forwarded_address,
    host_allowed,
    host_name,
    is_address,
    origin_allowed,
    same_origin,
)


@pytest.mark.parametrize(
    "header",
    [
        "127.0.0.1",
        "10.1.2.3:11435",
        "[::1]:11435",
        "[fe80::1%25eth0]:11435",
        "localhost:11435",
        "atlas",
        "atlas.local",
        "x.home.arpa:80",
    ],
)
def test_names_a_foreign_page_cannot_have_are_answered(header: str) -> None:
    """IP literals, single labels and private-use suffixes need no configuration."""
    assert host_allowed(header, frozenset())


@pytest.mark.parametrize(
    "header",
    ["evil.example:8080", "", "a/b?", "x:port", "a@b", "bücher.de", ".", "..", "1.2.3.4.evil.example", "a b"],
)
def test_every_other_name_is_refused(header: str) -> None:
    """A public name, or something that is no name, is not answered without a key."""
    assert not host_allowed(header, frozenset())


def test_own_names_are_answered() -> None:
    """The host of the public address and the listed names are answered whatever they look like."""
    assert host_allowed("GPU.Example.com:443", frozenset({"gpu.example.com"}))


def test_a_trailing_dot_is_the_same_name() -> None:
    """A fully qualified name may end in a dot."""
    assert host_name("Atlas.Example.:80") == "atlas.example"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://chat.example", True),
        ("https://chat.example.evil.example", False),
        ("http://localhost.evil.example", False),
        ("null", False),
        ("vscode-webview://abc", True),
        ("app://obsidian.md", True),
    ],
)
def test_origins_match_exactly_or_are_desktop_tools(origin: str, *, allowed: bool) -> None:
    """Listed origins count whole, never as a suffix; schemes no web site can have are let in."""
    assert origin_allowed(origin, ["https://chat.example"]) is allowed


def test_a_forwarded_address_counts_only_from_a_trusted_proxy() -> None:
    """Anybody can type the header, so it counts only when the peer is a listed proxy."""
    assert forwarded_address("10.0.0.9", "1.1.1.1", ["127.0.0.1"]) == "10.0.0.9"
    assert forwarded_address("127.0.0.1", "6.6.6.6, 1.1.1.1, 127.0.0.1", ["127.0.0.1"]) == "1.1.1.1"
    assert forwarded_address("127.0.0.1", "", ["127.0.0.1"]) == "127.0.0.1"


@pytest.mark.parametrize("origin", ["http://atlas:11435", "https://atlas:11435"])
def test_a_page_of_ours_is_welcome(origin: str) -> None:
    """The page's own address, with or without TLS in front."""
    assert same_origin(origin, "atlas:11435")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://", ""),
        ("null", "null"),
        ("http://[", "atlas"),
        ("http://atlas", "atlas:1"),
        ("x://atlas", "atlas"),
    ],
)
def test_a_page_of_others_is_not(origin: str, host: str) -> None:
    """Anything but the exact address is another page; what is no address is no fault of ours either."""
    assert not same_origin(origin, host)


def test_an_address_is_no_name() -> None:
    """Of both kinds, written as in a socket's address."""
    hosts = ["127.0.0.1", "::1", "fe80::1%eth0", "localhost", "[::1]", "1.2.3", ""]
    assert [host for host in hosts if is_address(host)] == ["127.0.0.1", "::1", "fe80::1%eth0"]
