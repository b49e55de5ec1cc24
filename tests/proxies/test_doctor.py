"""What ``gpushare doctor`` finds out of the real programs in front."""

from pathlib import Path

import pytest

from gpushare.core.doctor import Level
from tests.examined import about, doctor
from tests.harness import Gate, gateway
from tests.proxies.front import Front, front

HOLDING_BACK = {
    "proxy_buffering off;": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
    "proxy_http_version 1.1;": "",
}
"""What turns the example for nginx into what one gets without it, and a header of ours ignored besides."""


async def test_an_example_is_found_good(proxy: Front, gate: Gate, name: str, tmp_path: Path) -> None:
    """It is named, and what could not be tried in a second is told as such."""
    env = {"SSL_CERT_FILE": str(proxy.vouching)}
    (finding,) = about("proxy", await doctor(gate, tmp_path, who="alice", public_url=proxy.url, env=env))
    assert finding.level is Level.OK
    assert name in finding.text.lower()
    assert "passes answers on as they come; that it waits out 4 min of silence was not tried" in finding.text


@pytest.mark.needs("nginx", "openssl")
async def test_one_that_holds_answers_back(gate: Gate, folder: Path, tmp_path: Path) -> None:
    """All lines come when the last was sent."""
    async with front("nginx", folder, f"127.0.0.1:{gate.port}", HOLDING_BACK) as proxy:
        env = {"SSL_CERT_FILE": str(proxy.vouching)}
        (finding,) = about("proxy", await doctor(gate, tmp_path, who="alice", public_url=proxy.url, env=env))
    assert finding.level is Level.FAIL
    assert "holds answers back: lines sent over 1.0 s arrive within 0.0 s" in finding.text
    assert "extras/nginx.conf" in finding.fix


async def test_one_that_is_not_believed(tmp_path: Path, folder: Path, name: str) -> None:
    """The remedy names its address."""
    async with (
        gateway(tmp_path, settings="[server]\ntrusted_proxies = []\n") as gate,
        front(name, folder, f"127.0.0.1:{gate.port}") as proxy,
    ):
        env = {"SSL_CERT_FILE": str(proxy.vouching)}
        report = await doctor(gate, tmp_path, who="alice", public_url=proxy.url, env=env)
    _, finding = about("proxy", report)
    assert finding.level is Level.WARN
    assert finding.fix == 'add "127.0.0.1" to server.trusted_proxies'


async def test_one_whose_certificate_is_not_trusted(proxy: Front, gate: Gate, tmp_path: Path) -> None:
    """That is the reason, in OpenSSL's words."""
    env = {"SSL_CERT_FILE": "/dev/null"}
    (finding,) = about("proxy", await doctor(gate, tmp_path, who="alice", public_url=proxy.url, env=env))
    assert finding.level is Level.WARN
    assert "its certificate is not trusted here: " in finding.text
