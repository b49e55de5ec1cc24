"""``gpushare demo`` as a child process."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = [sys.executable, "-c", "import sys; from gpushare.cli import main; sys.exit(main())", "demo"]


class Demo:
    """A running demo and what it printed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.process = process
        self.text = ""
        for line in process.stdout:
            self.text += line
            if line.startswith("Ctrl-C"):
                break

    def find(self, pattern: str) -> str:
        found = re.search(pattern, self.text)
        assert found, self.text
        return found[1]

    @property
    def url(self) -> str:
        return self.find(r"page +(\S+)/status")

    @property
    def key(self) -> str:
        return self.find(r"your key +(\S+)")


@contextmanager
def running_demo(folder: Path) -> Iterator[Demo]:
    """Runs a demo with six people on a free port, whose temporary folder is made in ``folder``."""
    root = Path(__file__).parents[1]
    environment = {"TMPDIR": str(folder), "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*COMMAND, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield Demo(process)
    finally:
        process.kill()
        process.communicate()
