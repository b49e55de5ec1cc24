import pytest

from gpushare.core.login import Login, is_sendable, parse_login, tidy_url


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("atlas:11435", "http://atlas:11435"),
        (" http://Atlas:11435/ ", "http://atlas:11435"),
        ("https://gpu.lan/share/", "https://gpu.lan/share"),
        ("http://[::1]:11435", "http://[::1]:11435"),
    ],
)
def test_an_address_has_one_spelling(typed: str, kept: str) -> None:
    """So that a key is kept for one server, however its address was typed."""
    assert tidy_url(typed) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "ftp://atlas",
        "http://",
        "http://a:b@atlas",
        "http://atlas:x",
        "http://a b",
        "http://é",
        "a?b",
        "http://x$(y)",
        "a:99999",
        "http://a/`b`",
    ],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    """Before anything is sent to it."""
    with pytest.raises(ValueError, match="is no address"):
        tidy_url(typed)


def test_a_login_is_read() -> None:
    """With its address in the one spelling."""
    assert parse_login('url = "http://A:1/"\nkey = "gs_x"\n') == Login(url="http://a:1", key="gs_x")
    assert parse_login('url = "http://a:1"\n').key == ""


@pytest.mark.parametrize(
    "text", ["", "url = 3", 'url = "http://a"\nkey = "secret"', 'url = "http://a"\nkeys = 1', 'url = "secret']
)
def test_a_problem_repeats_nothing_of_the_file(text: str) -> None:
    """It may hold a key."""
    with pytest.raises(ValueError, match=r"^(is not what gpushare login writes|holds no key)") as wrong:
        parse_login(text)
    assert "secret" not in str(wrong.value)


def test_only_keys_are_sent() -> None:
    """Nothing that would break a header, or is somebody else's secret."""
    assert is_sendable("")
    assert is_sendable("gs_7f3a2c_V8kQ")
    for text in ("sk-123", "gs_\n", "gs_ x", "gs_\u2026", "gs_" + "x" * 256):
        assert not is_sendable(text)
