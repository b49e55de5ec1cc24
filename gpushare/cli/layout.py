"""Where the service's files are, on this machine or in a tree that is prepared for another one."""

from dataclasses import dataclass
from pathlib import Path

from gpushare.edge.files import SYSTEM_CONFIG

USER = "gpushare"
STATE = Path("/var/lib/gpushare")
HOME = Path("/opt/gpushare")
PROGRAM = HOME / "venv"
COMMAND = Path("/usr/local/bin/gpushare")
UNITS = Path("/etc/systemd/system")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths under a root; what files say of each other is without it."""

    root: Path = Path("/")

    @property
    def is_live(self) -> bool:
        """Whether this machine is meant, with its users and its service manager."""
        return self.root == Path("/")

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.at(SYSTEM_CONFIG)

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.at(STATE)

    @property
    def home(self) -> Path:
        """The folder of the program."""
        return self.at(HOME)

    @property
    def program(self) -> Path:
        """The virtual environment."""
        return self.at(PROGRAM)

    @property
    def command(self) -> Path:
        """The command that every shell finds."""
        return self.at(COMMAND)

    @property
    def units(self) -> Path:
        """The folder of the units."""
        return self.at(UNITS)

    def at(self, path: Path) -> Path:
        """Returns where an absolute path lies."""
        return self.root / path.relative_to("/")
