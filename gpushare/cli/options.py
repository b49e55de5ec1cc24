"""Options that several commands share, and what they lead to: the configuration and the key file."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import click

from gpushare.core.config import Config, load
from gpushare.core.hosts import is_everywhere, is_loopback, reachable, with_port
from gpushare.core.schema import Reading
from gpushare.edge.files import KeyFile, find_config, read_text, state_dir

config_option = click.option(
    "-c", "--config", "config_path", metavar="FILE", help="Use this configuration and no other."
)
color_option = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colours; auto: on a terminal, unless $NO_COLOR is set.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a command works with; ``path`` is None when no configuration file was found."""

    path: Path | None
    reading: Reading[Config]

    @property
    def config(self) -> Config:
        """The effective configuration."""
        return self.reading.value

    @property
    def keys(self) -> KeyFile:
        """The key file of this configuration."""
        return KeyFile(state_dir(self.config.state.dir, os.environ))


def read_setup(config_path: str | None, *, listen: str | None = None) -> Setup:
    """Reads the configuration that a command was told to use, or would find.

    Raises:
        ConfigErrors: it cannot be used.
    """
    path = find_config(config_path, os.environ)
    text = read_text(path) if path else ""
    options = {"server.listen": listen} if listen else {}
    return Setup(path=path, reading=load(text, source=str(path), env=os.environ, options=options))


def base_url(config: Config) -> str:
    """Returns the address that people on this machine or network can type."""
    if config.server.public_url:
        return config.server.public_url.rstrip("/")
    host, port = config.server.address
    return _url(config, reachable(host), port)


def shared_url(config: Config) -> str | None:
    """Returns the address that people elsewhere can type, None where the server is not open to them."""
    host, port = config.server.address
    if config.server.public_url:
        return base_url(config)
    if is_loopback(host):
        return None
    return _url(config, socket.gethostname() if is_everywhere(host) else host, port)


def _url(config: Config, host: str, port: int) -> str:
    return f"{config.server.scheme}://{with_port(host, port)}"
