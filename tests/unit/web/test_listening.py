"""Over TLS a client is bounded, timed, and noticed to leave, as it is without."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from gpushare.edge.tls import server_context
from gpushare.web.connections import ConnectionLimits
from gpushare.web.protocol import BACKLOG_HIGH_BYTES
from gpushare.web.transport import ResponseSink
from tests.certificates import Certificate, certificate, make_certificate
from tests.unit.web.test_protocol import body_and_wait, never, stream_lots, stream_on
from tests.unit.web.wire import HANG_S, Bench, Handler, SecureWire, Wire, get, post, statuses

__all__ = ["certificate"]

pytestmark = pytest.mark.needs("openssl")


@pytest.fixture
def secure(bench: Bench, certificate: Certificate) -> Bench:
    """A server on which clients speak TLS."""
    bench.tls = server_context(str(certificate.cert), str(certificate.key))
    return bench


async def test_requests_follow_each_other(secure: Bench, certificate: Certificate) -> None:
    """Two requests and their bodies pass on one connection; the handler knows that it is secure."""
    await secure.start()
    wire = await secure.dial_securely(certificate.client())
    await wire.send(post(b"one", target="/1") + post(b"two", "Connection: close", target="/2"))
    answers = await wire.rest()
    assert statuses(answers) == [200, 200]
    assert b"POST /1 one" in answers
    assert b"POST /2 two" in answers
    wire.wire.close()
    await secure.gone()


async def test_bytes_that_come_with_the_handshake_are_not_lost(
    secure: Bench, certificate: Certificate
) -> None:
    """A request may arrive together with the client's last word of the handshake."""
    await secure.start()
    for _ in range(20):
        wire = await secure.dial()
        found = SecureWire(wire, certificate.client())
        await found.shake_hands(get("/", "Connection: close"))
        assert statuses(await found.rest()) == [200]


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset, Wire.half_close])
@pytest.mark.parametrize("behind", [b"", get("/behind")[:20], get("/behind") * 1000])
@pytest.mark.parametrize("handler", [never, stream_on, body_and_wait])
async def test_leaving_cancels(
    secure: Bench,
    certificate: Certificate,
    leave: Callable[[Wire], None],
    behind: bytes,
    handler: Handler,
) -> None:
    """P3, P4: a client that leaves without a word, whatever lies unread behind it, cancels its request."""
    secure.handler = handler
    await secure.start()
    wire = await secure.dial_securely(certificate.client())
    await wire.send(post(b"{}", target="/first"))
    assert await secure.entered.get() == "/first"
    wire.send_what_fits(behind)
    leave(wire.wire)
    async with asyncio.timeout(HANG_S):
        assert await secure.cancelled.get() == "/first"
    await secure.gone()
    assert secure.seen == ["/first"]


@pytest.mark.parametrize("handler", [never, stream_on, body_and_wait])
async def test_a_goodbye_cancels(secure: Bench, certificate: Certificate, handler: Handler) -> None:
    """P3, P4: the proper end of TLS is an end, though the socket stays open."""
    secure.handler = handler
    await secure.start()
    wire = await secure.dial_securely(certificate.client())
    await wire.send(post(b"{}", target="/first"))
    await secure.entered.get()
    await wire.say_goodbye()
    async with asyncio.timeout(HANG_S):
        assert await secure.cancelled.get() == "/first"
    await secure.gone()


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset])
async def test_leaving_while_slow(
    secure: Bench, certificate: Certificate, leave: Callable[[Wire], None]
) -> None:
    """A client that leaves with answer bytes still unsent is noticed too.

    One that reads nothing and half-closes without the end that TLS has is not, on uvloop: the deadline for
    slow readers ends it.
    """
    secure.handler = stream_lots
    await secure.start()
    wire = await secure.dial_securely(certificate.client(), receive_bytes=4096)
    await wire.send(get())
    await wire.until(b"\r\n\r\n")
    leave(wire.wire)
    async with asyncio.timeout(HANG_S):
        await secure.cancelled.get()
    await secure.gone()


async def test_what_tls_has_not_sent_counts_as_unsent(secure: Bench, certificate: Certificate) -> None:
    """P5, P8: an answer is told to pause above the mark and to go on below it, and none of it is lost."""
    piece, sent, most = b"x" * 16384, 0, 0
    paused = asyncio.Event()

    async def write_until_paused(request: web.Request) -> web.StreamResponse:
        nonlocal sent, most
        going = asyncio.Event()
        sink = ResponseSink(request)
        sink.start(200, {"Content-Length": str(1000 * len(piece))})
        sink.set_flow(going.clear, going.set)
        going.set()
        for _ in range(1000):
            sink.write(piece)
            sent += len(piece)
            most = max(most, sink.backlog())
            if not going.is_set():
                paused.set()
                await going.wait()
        sink.finish()
        return sink.response

    secure.handler = write_until_paused
    await secure.start()
    wire = await secure.dial_securely(certificate.client(), receive_bytes=4096)
    await wire.send(get("/", "Connection: close"))
    async with asyncio.timeout(HANG_S):
        await paused.wait()
    assert sent < 1000 * len(piece)
    answer = await wire.rest()
    assert len(answer.partition(b"\r\n\r\n")[2]) == 1000 * len(piece)
    assert most < 2 * BACKLOG_HIGH_BYTES


# --- handshakes


async def test_a_handshake_that_does_not_come_is_dropped(secure: Bench) -> None:
    """Input 67: a client that connects and says nothing has as long as for a header, and gets no answer."""
    secure.limits = ConnectionLimits(header_timeout_s=0.05)
    await secure.start()
    wire = await secure.dial()
    assert await wire.rest() == b""
    await noted(secure, 1)


async def test_what_is_no_tls_is_dropped(secure: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Plain HTTP on the port for TLS ends with TLS's own alert, and says nothing in the log."""
    await secure.start()
    wire = await secure.dial()
    await wire.send(get())
    assert b"HTTP" not in await wire.rest()
    await noted(secure, 1)
    assert caplog.records == []


async def test_old_tls_is_refused(secure: Bench, certificate: Certificate) -> None:
    """TLS 1.1 and below are not spoken; 1.2 is."""
    await secure.start()
    client = certificate.client()
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    await secure.dial_securely(client)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError):  # noqa: PT011 - with an alert or without one
        await secure.dial_securely(old)


async def test_handshakes_are_counted(secure: Bench, certificate: Certificate) -> None:
    """Half-made connections are bounded like those without a key, and end when they turn into whole ones."""
    secure.limits = ConnectionLimits(anonymous=2)
    await secure.start()
    begun = [await secure.dial() for _ in range(2)]
    refused = await secure.dial()
    assert await refused.rest() == b""
    await noted(secure, 1)
    for wire in begun:
        await SecureWire(wire, certificate.client()).shake_hands()
    secure.connections.set_limits(ConnectionLimits(anonymous=3))
    assert statuses(await (await asked(secure, certificate)).rest()) == [200]


async def test_who_is_refused_and_says_no_goodbye_is_dropped(
    secure: Bench, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8: a flood of such clients, which no limit counts, would take every descriptor there is."""
    monkeypatch.setattr("gpushare.web.connections.DOOR_PLACES", 0)
    monkeypatch.setattr("gpushare.web.protocol.DOOR_S", 0.05)
    secure.limits = ConnectionLimits(total=1, write_stall_s=10 * HANG_S)
    await secure.start()
    kept = await secure.dial_securely(certificate.client())
    await kept.send(get())
    await kept.until(b"\r\n\r\n")
    refused = await secure.dial_securely(certificate.client())
    assert statuses(await refused.rest()) == [503]
    assert await refused.wire.rest() == b""


async def test_a_handshake_that_has_begun_outlives_the_listener(
    secure: Bench, certificate: Certificate
) -> None:
    """P23: a connection that was taken is not dropped because no more are taken."""
    await secure.start()
    wire = await secure.dial()
    await asked(secure, certificate)  # by now the one before is taken too
    stopping = asyncio.get_running_loop().create_task(secure.stop_listening())
    await asyncio.sleep(0)
    found = SecureWire(wire, certificate.client())
    await found.shake_hands(get("/", "Connection: close"))
    assert statuses(await found.rest()) == [200]
    await stopping


async def test_a_new_certificate_is_shown_from_the_next_connection_on(
    secure: Bench, certificate: Certificate, tmp_path: Path
) -> None:
    """A renewal disturbs nobody who is connected."""
    await secure.start()
    before = await secure.dial_securely(certificate.client())
    other = make_certificate(tmp_path, "other")
    secure.tls = server_context(str(other.cert), str(other.key))
    after = await secure.dial_securely(other.client())
    assert (before.certificate, after.certificate) == (certificate.der, other.der)
    await before.send(get("/", "Connection: close"))
    assert statuses(await before.rest()) == [200]


async def asked(bench: Bench, certificate: Certificate) -> SecureWire:
    """Returns a connection on which a request was sent."""
    wire = await bench.dial_securely(certificate.client())
    await wire.send(get("/", "Connection: close"))
    return wire


async def noted(bench: Bench, count: int) -> None:
    """Waits until so many handshakes have come to nothing."""
    async with asyncio.timeout(HANG_S):
        while bench.connections.events["handshake"] != count:
            await asyncio.sleep(0.001)
