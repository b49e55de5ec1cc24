"""Whichever way it is installed, the product finds its files and serves them."""

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpushare import __version__
from tests.packaging.conftest import ROOT, Environment
from tests.ports import free_port

ASSETS = ("config.toml", "static", "systemd", "templates")
PRINT_ASSETS = f"""
import json
from gpushare.edge.files import asset
print(json.dumps({{name: str(asset(name)) for name in {ASSETS}}}))
"""


def fetch(url: str) -> tuple[str, str]:
    """Returns the media type and the text of an answer."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.headers.get_content_type(), answer.read().decode()


@contextmanager
def serving(environment: Environment, home: Path) -> Iterator[str]:
    """Runs ``gpushare serve`` for a person without any files yet; yields its address."""
    address = f"127.0.0.1:{free_port()}"
    command = [environment.program("gpushare"), "serve", "--listen", address]
    server = subprocess.Popen(command, cwd=home, env={"HOME": str(home)}, stderr=subprocess.PIPE, text=True)
    try:
        await_answer(server, f"http://{address}/healthz")
        yield f"http://{address}"
    finally:
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=30)
    assert server.returncode == 0, log


def await_answer(server: "subprocess.Popen[str]", url: str) -> None:
    """Returns when the server answers.

    Raises:
        AssertionError: it ended instead.
    """
    while server.poll() is None:
        try:
            fetch(url)
        except urllib.error.URLError:
            time.sleep(0.05)  # between two looks: a process cannot be awaited for listening
        else:
            return
    raise AssertionError(server.communicate()[1])


def test_the_shipped_files_are_found(form: str, installed: Environment) -> None:
    """Built distributions carry their files; a checkout uses the ones being edited, not a stale copy."""
    found = json.loads(installed.run("python", "-c", PRINT_ASSETS))
    home = ROOT if form == "editable" else installed.path
    assert [name for name in ASSETS if not Path(found[name]).exists()] == []
    assert [name for name in ASSETS if not Path(found[name]).is_relative_to(home)] == []


def test_the_command_says_its_version(installed: Environment) -> None:
    """The command is installed under the product's name."""
    assert installed.run("gpushare", "--version").strip() == f"gpushare {__version__}"


def test_the_status_page_and_its_stylesheet_are_served(installed: Environment, tmp_path: Path) -> None:
    """The first page works with nothing configured, and looks as it should."""
    with serving(installed, tmp_path) as url:
        kind, page = fetch(f"{url}/status")
        assert kind == "text/html"
        sheet = re.search(r'<link[^>]*rel="stylesheet"[^>]*href="([^"]+)"', page)
        assert sheet, page
        kind, text = fetch(url + sheet[1])
    assert kind == "text/css"
    name, *_, kind = Path(sheet[1]).name.split(".")  # between the two stands a digest of the content
    assert text == (ROOT / "static" / f"{name}.{kind}").read_text()


def test_the_wheel_holds_the_package_and_its_licence_only(distributions: dict[str, Path]) -> None:
    """Nothing of the repository besides the product reaches site-packages."""
    names = zipfile.ZipFile(distributions["wheel"]).namelist()
    info = f"gpushare_gateway-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"gpushare", info}
    assert f"{info}/licenses/LICENSE" in names
    assert "gpushare/py.typed" in names


def test_the_distribution_cannot_be_uploaded_by_mistake(distributions: dict[str, Path]) -> None:
    """The package index refuses what carries this classifier: the plain name there is somebody else's."""
    wheel = zipfile.ZipFile(distributions["wheel"])
    metadata = wheel.read(f"gpushare_gateway-{__version__}.dist-info/METADATA").decode()
    assert "Classifier: Private :: Do Not Upload" in metadata
