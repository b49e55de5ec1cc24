"""A certificate and its key, and everything that can be wrong with them."""

import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpushare.core.problems import ConfigErrors
from gpushare.edge.tls import Certificate as Shown
from gpushare.edge.tls import ends, server_context
from tests.certificates import Certificate, certificate, make_certificate

__all__ = ["certificate"]

pytestmark = pytest.mark.needs("openssl")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Another certificate."""
    return make_certificate(tmp_path_factory.mktemp("other"), "other")


def shown(context: ssl.SSLContext, trusted: Certificate) -> bytes:
    """Returns the certificate that a client of this server sees."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = trusted.client().wrap_bio(to_client, to_server, server_hostname="localhost")
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_a_certificate_is_shown_and_renewed(certificate: Certificate, other: Certificate) -> None:
    """The new one is shown once it is put in use, not when it is read."""
    server = Shown(str(certificate.cert), str(certificate.key))
    use = server.read(str(other.cert), str(other.key))
    assert shown(server.context, certificate) == certificate.der
    use()
    assert shown(server.context, other) == other.der
    assert server.context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_renewal_that_fails_changes_nothing(certificate: Certificate, other: Certificate) -> None:
    """A key that does not fit is found before anything is exchanged."""
    server = Shown(str(certificate.cert), str(certificate.key))
    with pytest.raises(ConfigErrors, match="is not the key of the certificate"):
        server.read(str(other.cert), str(certificate.key))
    assert shown(server.context, certificate) == certificate.der


def said(cert: Path, key: Path) -> str:
    """Returns the one problem of a pair of files."""
    with pytest.raises(ConfigErrors) as caught:
        server_context(str(cert), str(key))
    (problem,) = caught.value.problems
    return problem.briefly()


def test_what_is_wrong_names_the_setting_and_the_file(certificate: Certificate, tmp_path: Path) -> None:
    """A missing file, a wrong one, the two exchanged, and one that everybody may read."""
    cert, key = certificate.cert, certificate.key
    gone, noise = tmp_path / "gone", tmp_path / "noise"
    noise.write_bytes(b"\x00\xff")
    broken = tmp_path / "broken.pem"
    broken.write_text(cert.read_text().replace("MII", "XXX"))
    no_file = "cannot be read (No such file or directory)"
    assert said(gone, key) == f"{gone}: server.tls_cert: {no_file}"
    assert said(cert, gone) == f"{gone}: server.tls_key: {no_file}"
    assert said(noise, key) == f"{noise}: server.tls_cert: holds no certificate in PEM form"
    assert said(key, cert) == f"{key}: server.tls_cert: holds no certificate in PEM form"
    assert said(cert, cert) == f"{cert}: server.tls_key: holds no private key in PEM form"
    assert said(broken, key).startswith(f"{broken}: server.tls_cert: cannot be used")
    loose = tmp_path / "loose.key"
    loose.write_bytes(key.read_bytes())
    loose.chmod(0o644)
    assert said(cert, loose) == f"{loose}: server.tls_key: everybody may read or write it"


def test_a_key_with_a_passphrase_is_refused(certificate: Certificate, tmp_path: Path) -> None:
    """Nobody is there to type it, and OpenSSL would ask the terminal."""
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", certificate.key, "-aes256", "-passout", "pass:x", "-out", locked],
        check=True,
        capture_output=True,
    )
    locked.chmod(0o600)
    assert said(certificate.cert, locked) == f"{locked}: server.tls_key: has a passphrase"


def test_when_it_ends(certificate: Certificate, other: Certificate, tmp_path: Path) -> None:
    """The first of a chain counts, as openssl says it; none and what is none end never."""
    asked = ["openssl", "x509", "-noout", "-enddate", "-in", str(certificate.cert)]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    expected = datetime.fromtimestamp(ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter=")), UTC)
    chain = tmp_path / "chain.pem"
    chain.write_text(f"a comment\n{certificate.cert.read_text()}{other.cert.read_text()}")
    assert ends(str(chain)) == expected
    chain.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    assert [ends(name) for name in (str(chain), str(certificate.key), "", "/no/such/file")] == [None] * 4
