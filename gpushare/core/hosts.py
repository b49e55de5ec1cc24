"""Which ``Host`` and ``Origin`` names are answered without a key: the guard against DNS rebinding.

A page in a colleague's browser can make its own name resolve to this server and then read keyless answers.
It cannot choose an IP literal, a single-label name or a private-use suffix as its own name, so these need no
configuration; every other name must be listed.
"""

import ipaddress
import re
from collections.abc import Iterable

PRIVATE_SUFFIXES = (".local", ".lan", ".internal", ".home.arpa", ".test", ".localhost")
# Schemes a web site cannot have; Ollama lets the same ones in, and desktop tools depend on it.
DESKTOP_SCHEMES = ("app://", "file://", "tauri://", "vscode-webview://", "vscode-file://")

_ADDRESS = r"[0-9a-fA-F:.]+(?:%[A-Za-z0-9._~-]+)?"  # of IPv6, with the zone of a link-local one
_HOST = re.compile(rf"(?:\[(?P<v6>{_ADDRESS})\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{{1,5}})?", re.ASCII)


def host_name(header: str) -> str | None:
    """Returns the lower-case name or address in a ``Host`` header, None when it is not well-formed."""
    found = _HOST.fullmatch(header)
    return (found["v6"] or found["name"]).lower().rstrip(".") or None if found else None


def host_allowed(header: str, own_names: Iterable[str]) -> bool:
    """Whether a keyless request under this ``Host`` header may be answered.

    ``own_names`` are the machine's names, the host of ``server.public_url`` and ``server.allowed_hosts``.
    """
    name = host_name(header)
    if name is None:
        return False
    if name in own_names or name.endswith(PRIVATE_SUFFIXES):
        return True
    return ("." not in name and ":" not in name) or is_address(name)


def is_address(host: str) -> bool:
    """Whether a host is a literal address, and no name to be looked up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a name or an address means the machine it is used on."""
    try:
        return _plain(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_everywhere(host: str) -> bool:
    """Whether an address to listen on means every one of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def reachable(host: str) -> str:
    """Returns where to reach on this machine what listens at an address."""
    if not is_everywhere(host):
        return host
    return "::1" if ":" in host else "127.0.0.1"


def with_port(host: str, port: int) -> str:
    """Writes an address as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def origin_allowed(origin: str, listed: Iterable[str]) -> bool:
    """Whether a browser page from ``origin`` may call the API: desktop tools, and exactly what is listed."""
    return origin.startswith(DESKTOP_SCHEMES) or origin in listed


def same_origin(origin: str, host: str) -> bool:
    """Whether a browser page comes from the very address that it calls, as its ``Host`` header names it."""
    return bool(host) and origin in (f"http://{host}", f"https://{host}")


def forwarded_address(peer: str, forwarded_for: str, trusted: Iterable[str]) -> str:
    """Returns who the caller is: the peer, or what a trusted proxy says.

    The last address of ``X-Forwarded-For`` that is not itself a trusted proxy counts, because everything to
    its left was written by the caller.
    """
    proxies = tuple(trusted)
    if not is_trusted(peer, proxies):
        return peer
    for part in reversed(forwarded_for.split(",")):
        address = part.strip()
        if address and not is_trusted(address, proxies):
            return address
    return peer


def is_trusted(address: str, trusted: Iterable[str]) -> bool:
    """Whether an address is one of the trusted ones."""
    try:
        return str(_plain(address)) in trusted
    except ValueError:
        return False


def is_within(address: str, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether an address lies in one of the networks."""
    try:
        plain = _plain(address)
    except ValueError:
        return False
    return any(plain in network for network in networks)


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Returns an address; one of IPv4 that came over an IPv6 socket as itself."""
    parsed = ipaddress.ip_address(address)
    return getattr(parsed, "ipv4_mapped", None) or parsed
