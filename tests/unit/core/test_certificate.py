"""The end of a certificate, found in its bytes."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.certificate import ends

# Made by: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=atlas -days 30
REAL = base64.b64decode(
    """
MIIBdjCCARugAwIBAgIUdtFMuUiBQTcqVauoTRj9gJj8EdYwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFYXRsYXMwHhcNMjYxMTI2MDg0ODM5WhcNMjYxMjI2MDg0ODM5
WjAQMQ4wDAYDVQQDDAVhdGxhczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABC0u
DT0fqqx8hvmxqybW94qEfMPqGx/4QCyal8nvfr8QqGW6utch8HBGV1VH/Wj9Zrih
0OXOuCZJKwpdLgB3A0yjUzBRMB0GA1UdDgQWBBRLZMUswV7/ry9Aw7ZDMu6dcD4B
cjAfBgNVHSMEGDAWgBRLZMUswV7/ry9Aw7ZDMu6dcD4BcjAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQCxO8feHLUtKl4t54EEJ7r6s+wDGwqsNl4m
5AjwOqhQ1gIhAKg+tZ1GEZU2kYaGhbJXgiUDbBpKoatMDr/ZDDTrrhDh
"""
)


def item(tag: int, content: bytes) -> bytes:
    """Returns one item of DER."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size) + content


def certificate(until: bytes, *, tag: int = 0x17) -> bytes:
    """Returns what a certificate has up to its validity, with a name long enough for a long length."""
    validity = item(0x30, item(0x17, b"200101000000Z") + item(tag, until))
    name = item(0x30, item(0x04, b"x" * 300))
    body = item(0xA0, item(0x02, b"\x02")) + item(0x02, b"\x07") + item(0x30, b"") + name + validity + name
    return item(0x30, item(0x30, body) + item(0x30, b"") + item(0x03, b"\x00"))


def test_a_real_one() -> None:
    """As openssl makes it."""
    assert ends(REAL) == datetime(2026, 12, 26, 8, 48, 39, tzinfo=UTC)


@pytest.mark.parametrize(
    ("until", "tag", "when"),
    [
        (b"301231235959Z", 0x17, datetime(2030, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (b"991231235959Z", 0x17, datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (b"20510101000000Z", 0x18, datetime(2051, 1, 1, tzinfo=UTC)),
    ],
)
def test_both_forms_of_a_time(until: bytes, tag: int, when: datetime) -> None:
    """With two digits for the year, and with four."""
    assert ends(certificate(until, tag=tag)) == when


@given(st.binary(max_size=60) | st.integers(0, 400).map(lambda cut: certificate(b"301231235959Z")[:cut]))
def test_what_is_none_is_told(content: bytes) -> None:
    """Whatever the bytes are, there is a time in them or a ValueError."""
    try:
        ends(content)
    except ValueError:
        return
