"""This server and Ollama as others reach them: over HTTP, at whichever address.

Called by: ``app.examination``, in threads.  Rules: a few seconds each at the most; nothing asks the GPU.
"""

import socket
import ssl
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

import msgspec

from gpushare.core.about import Probe
from gpushare.core.doctor.facts import Front

PATIENCE_S = 2.0
PROBE = "/gpushare/v1/probe"
PROBE_PATIENCE_S = 5.0  # the lines themselves take a second
RUNNING = b"Ollama is running"
_LONGEST_LINE = 4096


def server_name(host: str, port: int, *, tls: bool) -> str | None:
    """Returns how what answers at an address names itself, None if nothing answers."""
    try:
        with closing(_connection(host, port, tls=tls)) as connection:
            connection.request("HEAD", "/healthz")
            return connection.getresponse().headers.get("Server", "")
    except (OSError, HTTPException):
        return None


def is_ollama(host: str, port: int) -> bool:
    """Whether an Ollama answers at an address, and not this server in its place."""
    try:
        with closing(_connection(host, port, tls=False)) as connection:
            connection.request("GET", "/")
            answer = connection.getresponse()
            return answer.headers.get("Server") != "gpushare" and answer.read(100) == RUNNING
    except (OSError, HTTPException):
        return False


def probe(url: str, key: str, trust: ssl.SSLContext | None = None) -> Front:
    """Asks for the slow answer at the address that people type, and notes when each line comes."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "https":
            secure = trust or ssl.create_default_context()
            connection: HTTPConnection = HTTPSConnection(
                parts.netloc, timeout=PROBE_PATIENCE_S, context=secure
            )
        else:
            connection = HTTPConnection(parts.netloc, timeout=PROBE_PATIENCE_S)
        with closing(connection):
            connection.request("GET", PROBE, headers={"Authorization": f"Bearer {key}"})
            return _read(connection.getresponse())
    except ssl.SSLCertVerificationError as error:
        return Front(asked=True, error=f"its certificate is not trusted here: {error.verify_message}")
    except (OSError, HTTPException) as error:
        return Front(asked=True, error=_why(error))


def _read(answer: HTTPResponse) -> Front:
    if answer.status != 200:
        return Front(asked=True, error=f"it answers with status {answer.status}")
    lines, arrived_s = [], []
    while line := answer.readline(_LONGEST_LINE):
        arrived_s.append(time.monotonic())
        try:
            lines.append(msgspec.json.decode(line, type=Probe))
        except msgspec.DecodeError:
            return Front(asked=True, error="what answers there is something else")
    if not lines or len(lines) < lines[0].of:
        return Front(asked=True, error="its answer breaks off")
    since_first = tuple(at - arrived_s[0] for at in arrived_s)
    return Front(asked=True, lines=tuple(lines), arrived_s=since_first, via=_via(answer))


def _via(answer: HTTPResponse) -> str:
    """Returns what names itself as having passed an answer on."""
    server = answer.headers.get("Server", "")
    return answer.headers.get("Via", "") or ("" if server == "gpushare" else server)


def _connection(host: str, port: int, *, tls: bool) -> HTTPConnection:
    """Returns a connection that takes any certificate: who answers is asked, not whether to trust it."""
    if not tls:
        return HTTPConnection(host, port, timeout=PATIENCE_S)
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=PATIENCE_S, context=anyone)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "no such host"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
