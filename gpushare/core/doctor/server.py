"""Checks of the server itself: settings, keys, ledger, address, certificate, limits, service."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta

from gpushare.core.config import warnings
from gpushare.core.doctor.base import Finding, fail, failed, ok, size, warn
from gpushare.core.doctor.facts import Facts, Listener
from gpushare.core.hosts import is_loopback

SERVER = "gpushare"
"""How the server names itself in its answers, and how its process is called."""
AS_ROOT = "sudo gpushare doctor, if this user may not read it"
WHY = "journalctl -u gpushare -n 50"
ALLOW = "sudo systemctl edit gpushare  → [Service] IPAddressAllow="
OTHER_FILES = 256
"""Beside connections: refused ones and handshakes, listeners, the ledger, the log, the GPU's reader."""
AFTER_GRACE_S = 14.0
"""From the last answer to the end of the process: last connections, clean-up, and a margin."""
SOON = timedelta(days=14)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def settings(facts: Facts) -> Iterator[Finding]:
    """Where the settings come from, and those that cost something."""
    differ = "1 setting differs" if facts.differing == 1 else f"{facts.differing} settings differ"
    yield ok("config", f"{facts.source}, {differ} from the defaults")
    for advice in warnings(facts.config):
        yield warn(advice.subject, advice.text, advice.fix)


def keys(facts: Facts) -> Iterator[Finding]:
    """Somebody has a key, and somebody may give out more."""
    found = facts.keys
    people = "1 person" if found.people == 1 else f"{found.people} people"
    if found.problem:
        yield failed("keys", found.problem, AS_ROOT)
    elif not found.people:
        remedy = "gpushare key add NAME --role admin"
        yield fail("keys", "nobody has a key, so every call is refused", remedy)
    elif not found.admins:
        yield warn("keys", f"{people}, none of them an admin", "gpushare key set NAME --role admin")
    else:
        yield ok("keys", f"{people}, {found.admins} of them admin")


def ledger(facts: Facts) -> Iterator[Finding]:
    """The ledger is whole."""
    found = facts.ledger
    if found.problem:
        yield failed("ledger", found.problem, AS_ROOT)
    elif found.error:
        text = f"{found.path} cannot be read now ({found.error})"
        yield warn("ledger", text, f"{AS_ROOT}; calls run all the same; if it lasts: {WHY}")
    elif found.size is None:
        yield ok("ledger", f"{found.path} is made when gpushare first runs")
    else:
        yield ok("ledger", f"{found.path}, {size(found.size)}, integrity ok")


def door(facts: Facts) -> Iterator[Finding]:
    """The port is gpushare's, or free for it."""
    found, where = facts.machine.door, facts.machine.door.where
    if found.server == SERVER:
        yield ok("port", f"{where} is answered by gpushare")
    elif found.listeners:
        yield _taken(found.listeners, where, by_unit=facts.machine.socket.get("ActiveState") == "active")
    elif found.refused:
        remedy = "set server.listen to an address of this machine, with a port from 1024 on"
        yield fail("port", f"nobody can listen on {where} ({found.refused})", remedy)
    elif facts.running is not None:
        yield ok("port", f"nobody listens on {where}: this server was started with another address")
    else:
        yield ok("port", f"{where} is free: gpushare does not run")


def _taken(listeners: tuple[Listener, ...], where: str, *, by_unit: bool) -> Finding:
    holders = {holder.pid: holder.name for listener in listeners for holder in listener.holders}
    named = ", ".join(f"pid {pid} ({name})" for pid, name in sorted(holders.items()))
    remedy = f"{WHY}, then: sudo systemctl restart gpushare"
    if SERVER in holders.values():
        return fail("port", f"{where} is held by gpushare, {named}, which does not answer", remedy)
    if by_unit:
        return fail("port", f"{where} is held by gpushare.socket, whose service does not answer", remedy)
    remedy = "stop it, or set server.listen to another port"
    if not named:
        return fail(
            "port", f"{where} is taken by another program", f"sudo gpushare doctor names it; {remedy}"
        )
    return fail("port", f"{where} is taken by {named}", remedy)


def listen(facts: Facts) -> Iterator[Finding]:
    """The units of systemd let in whom the settings do, and out to Ollama."""
    wanted, (host, _) = facts.config.server.listen, facts.config.server.address
    socket, service = facts.machine.socket, facts.machine.service
    held = re.findall(r"(\S+) \(Stream\)", socket.get("Listen", ""))
    if held and wanted not in held:
        text = f"gpushare.socket listens on {', '.join(held)}, in place of server.listen ({wanted})"
        yield warn("listen", text, "set server.listen to what it should be, then: sudo gpushare install")
    if not _keeps_to_this_machine(service):
        return
    if not held and not is_loopback(host):  # what comes through the socket is not the service's to refuse
        text = f"the service lets only this machine reach {wanted} (IPAddressAllow)"
        yield fail("listen", text, f"{ALLOW}192.168.0.0/16, then restart it")
    if not is_loopback(facts.config.ollama.address[0]):
        text = f"the service may not reach {facts.config.ollama.url} (IPAddressAllow)"
        yield fail("ollama", text, f"{ALLOW}{facts.config.ollama.address[0]}, then restart it")


def _keeps_to_this_machine(service: Mapping[str, str]) -> bool:
    allowed, denied = service.get("IPAddressAllow", ""), service.get("IPAddressDeny", "")
    return "0.0.0.0/0" in denied and all(is_loopback(net.partition("/")[0]) for net in allowed.split())


def certificate(facts: Facts) -> Iterator[Finding]:
    """The certificate of ``server.tls_cert`` holds for a while yet."""
    ends = facts.machine.certificate_ends
    if ends is None:
        return
    left, day = ends - facts.machine.clock.now, f"{ends:%Y-%m-%d}"
    remedy = "renew it, then: systemctl reload gpushare"
    if left <= timedelta():
        yield fail("tls", f"the certificate ended on {day}", remedy)
    elif left < SOON:
        yield warn("tls", f"the certificate ends on {day}, in {left.days} days", remedy)
    else:
        yield ok("tls", f"the certificate holds until {day}")


def limits(facts: Facts) -> Iterator[Finding]:
    """The process may open as many files as it may have connections."""
    server, queue = facts.config.server, facts.config.queue
    wanted = server.max_connections + queue.slots + queue.embedding_slots + OTHER_FILES
    found = facts.machine.descriptors
    if found is None:
        return
    text = f"{found} files may be open, {wanted} are needed for {server.max_connections} connections"
    if found >= wanted:
        yield ok("limits", text)
    else:
        remedy = (
            f"sudo systemctl edit gpushare  → [Service] LimitNOFILE={wanted}; or lower server.max_connections"
        )
        yield warn("limits", text, remedy)


def service(facts: Facts) -> Iterator[Finding]:
    """The service runs, and has the time it needs to end."""
    found = facts.machine.service
    match found.get("ActiveState"):
        case None:
            return
        case "failed":
            yield fail("service", "gpushare.service has failed", f"{WHY} says why")
        case "activating" if found.get("SubState") == "auto-restart":
            text = "gpushare.service does not start; it is tried again every few seconds"
            yield fail("service", text, f"{WHY} says why")
        case "inactive" if facts.machine.socket.get("ActiveState") != "active":
            remedy = "sudo systemctl enable --now gpushare.socket gpushare.service"
            yield warn("service", "gpushare.service is installed and does not run", remedy)
        case state:
            yield ok("service", f"gpushare.service is {state}")
    grace_s = facts.config.server.shutdown_grace
    stop_s = _seconds(found.get("TimeoutStopUSec", ""))
    # A service of type notify asks for the time it needs by itself.
    if found.get("Type") != "notify" and stop_s is not None and stop_s < grace_s + AFTER_GRACE_S:
        text = f"systemd kills after {stop_s:.0f} s, while answers may finish for {grace_s:.0f} s"
        least = f"TimeoutStopSec={grace_s + AFTER_GRACE_S:.0f}"
        yield warn("service", text, f"sudo systemctl edit gpushare  → [Service] {least}")


def _seconds(text: str) -> float | None:
    """Returns a span of time as systemd writes it, ``1min 30s``; None for none and for ``infinity``."""
    parts = _SPAN.findall(text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else None
