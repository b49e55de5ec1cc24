from pathlib import Path

import pytest

from gpushare.cli.options import base_url, read_setup
from gpushare.core.config import Config, Server
from gpushare.core.problems import ConfigErrors


@pytest.mark.parametrize(
    ("server", "url"),
    [
        (Server(), "http://127.0.0.1:11435"),
        (Server(listen="0.0.0.0:80"), "http://127.0.0.1:80"),
        (Server(listen="[::]:80"), "http://[::1]:80"),
        (Server(public_url="https://gpu.lan/"), "https://gpu.lan"),
        (Server(tls_cert="a.pem", tls_key="a.key"), "https://127.0.0.1:11435"),
    ],
)
def test_the_address_is_one_that_can_be_typed(server: Server, url: str) -> None:
    """What is public wins; a listener on all addresses is reached by loopback."""
    assert base_url(Config(server=server)) == url


def test_a_named_configuration_must_exist(home: Path) -> None:
    """A misspelt file is an error, not a silent default."""
    with pytest.raises(ConfigErrors, match="No such file"):
        read_setup(str(home / "typo.toml"))


def test_listen_wins_over_file_and_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option of the command line is the last word, and its mistakes are named after it."""
    (home / "c.toml").write_text('[server]\nlisten = "127.0.0.1:1"\n')
    monkeypatch.setenv("GPUSHARE_SERVER__LISTEN", "127.0.0.1:2")
    setup = read_setup(str(home / "c.toml"), listen="127.0.0.1:3")
    assert (setup.config.server.listen, setup.path) == ("127.0.0.1:3", home / "c.toml")
    with pytest.raises(ConfigErrors, match="option --listen: expected an address and port"):
        read_setup(str(home / "c.toml"), listen="3")


def test_keys_are_in_the_configured_state_directory(home: Path) -> None:
    """state.dir says where the key file is."""
    (home / "c.toml").write_text(f'[state]\ndir = "{home}/x"\n')
    assert read_setup(str(home / "c.toml")).keys.path == home / "x/keys.toml"
