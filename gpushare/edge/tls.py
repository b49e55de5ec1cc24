"""The certificate that clients are shown: read, checked, and read again.

Called by: ``app.serving``, ``app.examination``, ``gpushare config check``.  Rules: what is wrong names the
setting and the file.
"""

import ssl
import stat
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from gpushare.core import certificate
from gpushare.core.problems import ConfigErrors, Problem


def server_context(cert: str, key: str) -> ssl.SSLContext:
    """Returns what TLS from 1.2 on needs: the certificate with its chain, and the key.

    Args:
        cert: path of ``server.tls_cert``, in PEM form, the server's own certificate first.
        key: path of ``server.tls_key``, in PEM form, without a passphrase.

    Raises:
        ConfigErrors: either cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    _load(context, cert, key)
    return context


class Certificate:
    """The certificate that clients are shown, replaced whole.

    Args:
        cert: as ``server_context``, with what it raises.
        key: likewise.

    Attributes:
        context: for clients that connect from now on.
    """

    def __init__(self, cert: str, key: str) -> None:
        self.context = server_context(cert, key)

    def read(self, cert: str, key: str) -> Callable[[], None]:
        """Reads the certificate and key of these files, and returns what has them shown.

        Raises:
            ConfigErrors: either cannot be used.
        """
        return partial(setattr, self, "context", server_context(cert, key))


def ends(cert: str) -> datetime | None:
    """Returns the last moment at which a certificate holds; None for none, or one that cannot be read."""
    try:
        text = Path(cert).read_text(encoding="ascii")
        _, mark, rest = text.partition("-----BEGIN CERTIFICATE-----")
        first, end, _ = rest.partition("-----END CERTIFICATE-----")
        return certificate.ends(ssl.PEM_cert_to_DER_cert(mark + first + end))
    except (OSError, ValueError):
        return None


def _load(context: ssl.SSLContext, cert: str, key: str) -> None:
    _check(cert, "tls_cert", "CERTIFICATE", "certificate")
    _check(key, "tls_key", "PRIVATE KEY", "private key")
    try:
        context.load_cert_chain(cert, key, password=_refuse)
    except _Encrypted:
        raise _wrong(key, "tls_key", "has a passphrase", f"take it off: openssl pkey -in {key}") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _wrong(key, "tls_key", f"is not the key of the certificate {cert}") from None
        raise _wrong(cert, "tls_cert", f"cannot be used, or {key} cannot ({error.reason})") from None


def _check(name: str, setting: str, label: str, what: str) -> None:
    """Raises ConfigErrors unless the file can be read and holds what it should."""
    path = Path(name)
    try:
        content = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise _wrong(name, setting, f"cannot be read ({error.strerror})") from error
    if f"{label}-----".encode() not in content:
        raise _wrong(name, setting, f"holds no {what} in PEM form")
    if setting == "tls_key" and mode & (stat.S_IROTH | stat.S_IWOTH):
        raise _wrong(name, setting, "everybody may read or write it", f"fix: chmod o-rw {name}")


class _Encrypted(Exception):
    """OpenSSL asks for a passphrase, and nobody is there to type one."""


def _refuse() -> str:
    raise _Encrypted


def _wrong(path: str, setting: str, message: str, hint: str = "") -> ConfigErrors:
    return ConfigErrors((Problem(source=path, setting=f"server.{setting}", message=message, hint=hint),))
