from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpushare.core import forms


def refused(read: Callable[[Any], object], value: object) -> bool:
    """Whether reading the value ends in a ValueError."""
    try:
        read(value)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30s", 30.0),
        ("4m", 240.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
        ("250ms", 0.25),
        ("1.5 m", 90.0),
        ("0", 0.0),
    ],
)
def test_a_time_is_a_number_and_its_unit(text: str, value: float) -> None:
    """A time is written as a number with a unit; zero needs none."""
    assert forms.seconds(text) == value


@pytest.mark.parametrize("text", ["", "30", "s", "-3s", "1h30m", "3y", "٣s", "1e3s", "400d", "30S", "30s "])
def test_what_is_no_time_is_refused(text: str) -> None:
    """No unit, no number, a sign, another script's digits or more than a year: no time."""
    assert refused(forms.seconds, text)


@pytest.mark.parametrize(
    ("text", "value"), [("32MB", 32_000_000), ("2GB", 2 * 10**9), ("1MiB", 1 << 20), ("5B", 5)]
)
def test_a_size_counts_millions_or_powers_of_two(text: str, value: int) -> None:
    """MB are millions of bytes, MiB are powers of two."""
    assert forms.size(text) == value


@settings(deadline=None)
@given(st.integers(0, 10**7))
def test_a_written_time_reads_back(milliseconds: int) -> None:
    """Whatever a time is, the text written for it gives the same time."""
    value = milliseconds / 1000
    assert forms.seconds(forms.seconds_text(value)) == pytest.approx(value)


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_a_written_size_reads_back(value: int) -> None:
    """Whatever a size is, the text written for it gives the same size."""
    assert forms.size(forms.size_text(value)) == value


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("127.0.0.1:11435", ("127.0.0.1", 11435)),
        ("[::1]:80", ("::1", 80)),
        ("Atlas.lan:0", ("atlas.lan", 0)),
    ],
)
def test_an_address_is_host_and_port(text: str, split: tuple[str, int]) -> None:
    """An address is a name or an IP literal and a port; IPv6 stands in brackets."""
    assert forms.address(text) == split


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", ":80", "::1:80", "a:b", "a:70000", "a b:1", "1.2.3:80", "999.1.1.1:80", "[x]:1", "a:٣"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Without a host, without a port, or with a number that is no IP address: refused."""
    assert refused(forms.address, text)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:11434", "http://127.0.0.1:11434/", "http://[::1]:11434", "http://o"]
)
def test_an_upstream_url_is_scheme_host_and_port(text: str) -> None:
    """The upstream's address is plain HTTP with a host, and port 80 unless it says another."""
    assert forms.url_address(text)[1] in (80, 11434)


@pytest.mark.parametrize(
    "text",
    [
        "https://a:1",
        "http://a:1/api",
        "http://a:1?x",
        "http://u:p@a:1",
        "ftp://a",
        "a:1",
        "http://a:99999",
        "http://",
    ],
)
def test_an_upstream_url_has_nothing_else(text: str) -> None:
    """A path, a query, credentials or another scheme in the upstream's address is refused."""
    assert refused(forms.url_address, text)


@pytest.mark.parametrize("text", ["https://gpu.example.lan", "http://10.0.0.1:11435/", "https://[::1]"])
def test_a_public_address_is_kept_as_it_was_written(text: str) -> None:
    """The address people type is http or https, and empty for none."""
    assert forms.PUBLIC_URL.read(text) == text
    assert forms.PUBLIC_URL.read("") == ""


@pytest.mark.parametrize(
    "text", ["gpu.example.lan", "https://a/b", "https://u@a", "javascript:1", "https://a:x", 3]
)
def test_a_public_address_without_scheme_or_with_a_path_is_refused(text: object) -> None:
    """What is not just scheme, host and port is no public address."""
    assert refused(forms.PUBLIC_URL.read, text)


@pytest.mark.parametrize(
    "text",
    [
        "https://chat.example.org",
        "http://localhost:3000",
        "http://[::1]:3000",
        "chrome-extension://jfgfiigpkhlkbnfnbobbkinehhfdhndo",
        "moz-extension://5a1f3c2e-9f0b-4d1e-8a51-0c3f4b9d2e77",
    ],
)
def test_an_origin_is_written_as_browsers_send_it(text: str) -> None:
    """Pages and browser extensions; in any other form it would be listed and never match."""
    assert forms.ORIGIN.read(text) == text
    for wrong in (f"{text}/", text.upper(), f"{text}/chat", f"{text}?x", "file://x", "*", ""):
        assert refused(forms.ORIGIN.read, wrong), wrong


def test_auto_is_none_and_is_written_as_auto() -> None:
    """The word auto stands for "no fixed time" and is written back as the word."""
    assert forms.TIME_OR_AUTO.read("auto") is None
    assert forms.TIME_OR_AUTO.write(None) == "auto"
    assert forms.TIME_OR_AUTO.write(5.0) == "5s"


def test_zero_is_a_time_only_where_it_means_none() -> None:
    """A deadline may be switched off by 0 where that is offered, and nowhere else."""
    assert forms.TIME_OR_ZERO.read(0) == 0
    for form, value in ((forms.TIME, "0s"), (forms.TIME_OR_AUTO, "0"), (forms.TIME_OR_ZERO, False)):
        assert refused(form.read, value)


def test_networks_are_found_in_a_checked_list() -> None:
    """A list of networks becomes values that an address can be looked up in."""
    assert [network.prefixlen for network in forms.networks(("10.0.0.0/8", "::1"))] == [8, 128]


def test_hours_of_a_day() -> None:
    """The first one, and the one before which they end."""
    assert forms.hours("08:00-18:00") == (8, 18)
    assert forms.hours("00:00-24:00") == (0, 24)


@pytest.mark.parametrize("text", ["", "8-18", "08:30-18:00", "18:00-08:00", "08:00-08:00", "08:00-25:00"])
def test_what_are_no_hours(text: str) -> None:
    """Neither parts of one, nor a night, nor none at all."""
    with pytest.raises(ValueError, match=r".|^$"):
        forms.hours(text)
