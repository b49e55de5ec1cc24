"""Which changes of the configuration act at once, and which keep their old value."""

from gpushare.core.changes import compare, needs_restart
from gpushare.core.config import Config, parse


def parsed(text: str) -> Config:
    """Parses a file with nothing in the environment."""
    return parse(text, source="config.toml", env={})


def test_a_setting_acts_unless_it_needs_a_restart() -> None:
    """Both kinds are named; the configuration to use has the new value of one and the old of the other."""
    old = parsed('[server]\nlisten = "127.0.0.1:1"\n')
    new = parsed(
        '[server]\nlisten = "127.0.0.1:2"\nshutdown_grace = "5s"\n'
        '[ollama]\nurl = "http://127.0.0.1:3"\n[queue]\nslots = 3\n'
    )
    change = compare(old, new)
    assert change.changed == ("server.shutdown_grace", "queue.slots")
    assert change.kept == ("server.listen", "ollama.url")
    assert (change.config.server.shutdown_grace, change.config.queue.slots) == (5.0, 3)
    assert (change.config.server, change.config.ollama.url) == (
        parsed('[server]\nlisten = "127.0.0.1:1"\nshutdown_grace = "5s"\n').server,
        old.ollama.url,
    )


def test_the_same_settings_change_nothing() -> None:
    """Another way of writing a value is no change."""
    old, new = parsed('[queue]\nmax_wait = "1m"'), parsed('[queue]\nmax_wait = "60s"')
    change = compare(old, new)
    assert (change.config, change.changed, change.kept) == (old, (), ())


def test_a_setting_set_back_is_changed_again() -> None:
    """What waits for a restart is compared with what holds, not with what was asked for last."""
    old, other = Config(), parsed('[server]\nlisten = "127.0.0.1:2"')
    held = compare(old, other).config
    assert compare(held, old).kept == ()


def test_a_certificate_may_change_but_not_appear() -> None:
    """Which of the two a listener speaks stays; another certificate for one that speaks TLS acts."""
    plain = Config()
    one = parsed('[server]\ntls_cert = "1.pem"\ntls_key = "1.key"')
    two = parsed('[server]\ntls_cert = "2.pem"\ntls_key = "2.key"')
    both = ("server.tls_cert", "server.tls_key")
    assert (compare(plain, one).kept, compare(plain, one).config) == (both, plain)
    assert (compare(one, plain).kept, compare(one, plain).config) == (both, one)
    assert (compare(one, two).changed, compare(one, two).config) == (both, two)


def test_the_address_ollama_and_the_state_directory_need_a_restart() -> None:
    """They are in use by what cannot be replaced while calls run."""
    assert {"server.listen", "ollama.url", "state.dir"} <= set(needs_restart())
