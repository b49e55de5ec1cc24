"""https: the whole gateway over TLS, certificates that are renewed, and what a wrong one does."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gpushare.sim import SimOllama, State
from tests.certificates import Certificate, certificate, make_certificate
from tests.conformance.tools import Server, dial, last_done, post, run_command, served
from tests.harness import Gate, chat, gateway
from tests.integration.process import PEOPLE
from tests.integration.test_reload import hang_up
from tests.unit.web.wire import SecureWire, Wire

__all__ = ["certificate"]

pytestmark = pytest.mark.needs("openssl")


def settings(certificate: Certificate, more: str = "") -> str:
    """Returns the settings that turn TLS on."""
    return f'[server]\ntls_cert = "{certificate.cert}"\ntls_key = "{certificate.key}"\n{more}'


@asynccontextmanager
async def over_tls(folder: Path, certificate: Certificate) -> AsyncIterator[Gate]:
    """Runs a gateway on which clients speak TLS."""
    async with gateway(folder, settings=settings(certificate)) as gate:
        yield gate


@asynccontextmanager
async def connected(gate: Gate, certificate: Certificate) -> AsyncIterator[SecureWire]:
    """Connects a client."""
    async with dial(gate.port) as wire:
        secure = SecureWire(wire, certificate.client())
        await secure.shake_hands()
        yield secure


WAYS: dict[str, Callable[[Wire], None]] = {
    "fin": Wire.close,
    "rst": Wire.reset,
    "half-close": Wire.half_close,
}


@pytest.mark.parametrize("way", WAYS)
async def test_leaving_a_running_call(tmp_path: Path, certificate: Certificate, way: str) -> None:
    """P4: over TLS too, a client that leaves ends the work, and Ollama's connection is closed."""
    async with over_tls(tmp_path, certificate) as gate, connected(gate, certificate) as secure:
        await secure.send(post(gate, "/api/chat", chat("#sim:tokens=3000,delay_ms=2")))
        await secure.until(b"\r\n\r\n")
        (entry,) = [entry for entry in gate.sim.log if entry.path == "/api/chat"]
        WAYS[way](secure.wire)
        await entry.reached(State.CANCELLED)
        await gate.until(lambda: not gate.parts.gateway.live)
        assert last_done(gate)["outcome"] == "client_gone_running"


@pytest.mark.parametrize("way", WAYS)
async def test_leaving_the_queue(tmp_path: Path, certificate: Certificate, way: str) -> None:
    """P3: over TLS too, a waiting client that leaves gives its place up, and Ollama never hears of it."""
    async with (
        over_tls(tmp_path, certificate) as gate,
        connected(gate, certificate) as first,
        connected(gate, certificate) as second,
    ):
        await first.send(post(gate, "/api/chat", chat("#sim:tokens=3,fault=stall@1")))
        entry = await gate.sim.arrived(0, path="/api/chat")
        await entry.reached(State.STALLED)
        await second.send(post(gate, "/api/chat", chat("leaves"), who="bob"))
        await gate.waiting(1)
        WAYS[way](second.wire)
        await gate.waiting(0)
        assert last_done(gate)["outcome"] == "client_gone_queued"
        entry.resume()
        await first.until(b'"done":true')
        await gate.until(lambda: not gate.parts.gateway.live)
        assert len([entry for entry in gate.sim.log if entry.path == "/api/chat"]) == 1


# --- a process ------------------------------------------------------------------------------------------


@asynccontextmanager
async def https(folder: Path, certificate: Certificate) -> AsyncIterator[tuple[Server, SimOllama]]:
    """Runs ``gpushare serve`` with TLS in front of a simulated Ollama."""
    sim = SimOllama()
    await sim.start()
    try:
        async with served(folder, sim.url, people=PEOPLE, settings=settings(certificate)) as server:
            yield server, sim
    finally:
        await sim.stop()


async def shown(server: Server, trusted: Certificate) -> bytes:
    """Returns the certificate that a new client sees."""
    async with dial(server.port) as wire:
        secure = SecureWire(wire, trusted.client())
        await secure.shake_hands()
        return secure.certificate


async def test_everything_is_https(tmp_path: Path, certificate: Certificate) -> None:
    """Streams pass whole, addresses on pages say https, and the cookie is for https alone."""
    async with (
        https(tmp_path, certificate) as (server, sim),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=certificate.client())) as session,
    ):
        assert server.url == f"https://127.0.0.1:{server.port}"
        url, bearer = server.url, server.bearer("alice")
        async with session.post(url + "/api/chat", json=chat("#sim:tokens=50"), headers=bearer) as answer:
            body = await answer.read()
        entry = await sim.arrived(0, path="/api/chat")
        assert body == bytes(entry.answer)
        async with session.get(url + "/connect") as answer:
            assert f"https://127.0.0.1:{server.port}" in await answer.text()
        form = {"key": server.keys["alice"]}
        origin = {"Origin": url}
        async with session.post(url + "/login", data=form, headers=origin, allow_redirects=False) as answer:
            assert "Secure" in answer.headers["Set-Cookie"]
        server.terminate()
        assert await server.process.wait() == 0


async def test_a_renewed_certificate_is_read_on_reload(
    tmp_path: Path, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """P21: a renewal acts on SIGHUP for new connections; a broken one changes nothing and is named."""
    own = make_certificate(tmp_path_factory.mktemp("renewed"))
    async with https(tmp_path, own) as (server, _):
        assert await shown(server, own) == own.der
        old_key = own.key.read_bytes()
        own.cert.write_bytes(certificate.cert.read_bytes())
        hang_up(server)
        (problem,) = (await server.said("config.rejected"))["problems"]
        assert problem == f"{own.key}: server.tls_key: is not the key of the certificate {own.cert}"
        own.key.write_bytes(certificate.key.read_bytes())
        hang_up(server)
        await server.said("config.loaded")
        assert own.key.read_bytes() != old_key
        assert await shown(server, certificate) == certificate.der
        text = server.config.read_text()
        server.config.write_text(text.split("[server]")[0])
        hang_up(server)
        assert (await server.said("config.loaded", 2))["restart"] == ["server.tls_cert", "server.tls_key"]
        assert await shown(server, certificate) == certificate.der


@pytest.mark.parametrize("command", ["serve", "config check"])
async def test_a_wrong_certificate_starts_nothing(
    tmp_path: Path, certificate: Certificate, command: str
) -> None:
    """P25: one line names the setting and the file, before a start and at it."""
    config, key = tmp_path / "config.toml", tmp_path / "gone.key"
    config.write_text(settings(Certificate(certificate.cert, key), f'[state]\ndir = "{tmp_path}/state"\n'))
    code, said = await run_command(*command.split(), "-c", str(config))
    line = f"error: {key}: server.tls_key: cannot be read (No such file or directory)"
    assert (code, line in said.splitlines()) == (3, True)
