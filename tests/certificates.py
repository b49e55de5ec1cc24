"""Certificates made for a test by the ``openssl`` program; tests that use them need it."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for ``localhost`` and ``127.0.0.1`` that vouches for itself, and its key."""

    cert: Path
    key: Path

    @property
    def der(self) -> bytes:
        """What a client is shown."""
        return ssl.PEM_cert_to_DER_cert(self.cert.read_text())

    def client(self) -> ssl.SSLContext:
        """Returns what a client needs that trusts this certificate alone."""
        return ssl.create_default_context(cafile=str(self.cert))


def make_certificate(folder: Path, name: str = "server") -> Certificate:
    """Makes a certificate with a key of its own."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    subprocess.run(
        [
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2".split(),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(made.key), "-out", str(made.cert)),
        ],
        check=True,
        capture_output=True,
    )
    made.key.chmod(0o600)
    return made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One certificate for all tests of a module, which imports this."""
    return make_certificate(tmp_path_factory.mktemp("tls"))
