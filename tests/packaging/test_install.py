"""Whichever way it is installed, the product finds its files and serves them."""

import asyncio
import json
import re
import urllib.request
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gpushare import __version__
from tests.conformance.tools import Server, watched
from tests.packaging.conftest import ROOT, Environment

ASSETS = ("config.toml", "static", "systemd", "templates")
PRINT_ASSETS = f"""
import json
from gpushare.edge.files import asset
print(json.dumps({{name: str(asset(name)) for name in {ASSETS}}}))
"""


def fetch(url: str, *, key: str = "") -> tuple[str, str]:
    """Returns the media type and the text of an answer."""
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return answer.headers.get_content_type(), answer.read().decode()


@asynccontextmanager
async def serving(state_dir: Path, *command: str, **env: str) -> AsyncIterator[Server]:
    """Runs an installed ``gpushare serve`` for the block; it leaves nothing behind and ends well."""
    process = await asyncio.create_subprocess_exec(*command, cwd="/", env=env, stderr=asyncio.subprocess.PIPE)
    async with watched(Server(process, {}, state_dir)) as server:
        yield server
        await server.rest()
        server.terminate()
        assert await process.wait() == 0, server.log


def test_the_shipped_files_are_found(form: str, installed: Environment) -> None:
    """Built distributions carry their files; a checkout uses the ones being edited, not a stale copy."""
    found = json.loads(installed.run("python", "-c", PRINT_ASSETS))
    home = ROOT if form == "editable" else installed.path
    assert [name for name in ASSETS if not Path(found[name]).exists()] == []
    assert [name for name in ASSETS if not Path(found[name]).is_relative_to(home)] == []


def test_the_command_says_its_version(installed: Environment) -> None:
    """The command is installed under the product's name."""
    assert installed.run("gpushare", "--version").strip() == f"gpushare {__version__}"


async def test_the_status_page_and_its_stylesheet_are_served(installed: Environment, tmp_path: Path) -> None:
    """The first page works with nothing configured, and looks as it should."""
    command = (installed.program("gpushare"), "serve", "--listen", "127.0.0.1:0")
    async with serving(tmp_path / ".local/state/gpushare", *command, HOME=str(tmp_path)) as server:
        url = server.url
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
