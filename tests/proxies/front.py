"""The examples of ``extras/``, run by the real programs on ports of loopback."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.certificates import make_certificate
from tests.ports import free_port

EXTRAS = Path(__file__).parents[2] / "extras"
GATEWAY = "127.0.0.1:11435"
"""Where the examples look for gpushare."""
NO_CHANGE: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Front:
    """A front proxy that serves ``https://localhost:PORT``; everything it writes lies in ``folder``."""

    url: str
    vouching: Path
    folder: Path
    pid: int

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client trusts that was told of its certificate."""
        return ssl.create_default_context(cafile=str(self.vouching))

    @asynccontextmanager
    async def open(
        self, method: str, path: str, key: str = "", **options: Any
    ) -> AsyncIterator[httpx.Response]:
        """Gives an answer whose body has not been read; leaving the block early is leaving.

        aiohttp's client would not do: it says goodbye within TLS and then keeps the socket for 30 s, which
        nginx does not take for leaving.
        """
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **options.pop("headers", {})}
        async with (
            httpx.AsyncClient(verify=self.trust, timeout=60, trust_env=False) as client,
            client.stream(method, self.url + path, headers=headers, **options) as response,
        ):
            yield response

    async def ask(self, method: str, path: str, key: str = "", **options: Any) -> httpx.Response:
        """Returns the whole answer."""
        async with self.open(method, path, key, **options) as response:
            await response.aread()
            return response

    def written(self) -> str:
        """Returns all that the proxy has written: to its files, its terminal, and files it has unlinked."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        opened = Path(f"/proc/{self.pid}/fd").iterdir()
        files += [path for path in opened if str(path.readlink()).endswith(" (deleted)")]
        return "\n".join(path.read_text(errors="replace") for path in files)


@dataclass(frozen=True, slots=True)
class Program:
    """A proxy ready to run: how it is started and how its file is checked."""

    name: str
    serve: Sequence[str]
    check: Sequence[str]


def nginx(folder: Path, gateway: str, port: int, changes: Mapping[str, str]) -> Program:
    """Writes the example as it is but for names, ports and paths, and a file that includes it."""
    made = make_certificate(folder)
    example = (EXTRAS / "nginx.conf").read_text()
    here = {
        "listen 443": f"listen 127.0.0.1:{port}",
        "    listen [::]:443 ssl;\n": "",
        "gpu.example.lan;": "localhost;",
        "/etc/ssl/gpu.example.lan.pem": str(made.cert),
        "/etc/ssl/private/gpu.example.lan.key": str(made.key),
        "/var/log/nginx": str(folder),
        GATEWAY: gateway,
    }
    (folder / "gpushare.conf").write_text(changed(example, {**here, **changes}))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    main = folder / "main.conf"
    main.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ {paths} include {folder}/gpushare.conf; }}\n"
    )
    serve = ("nginx", "-e", "stderr", "-p", str(folder), "-c", str(main))
    return Program("nginx", serve, (*serve, "-t"))


def caddy(folder: Path, gateway: str, port: int, changes: Mapping[str, str]) -> Program:
    """Writes the example as it is but for names, ports and paths, and for what would change the machine."""
    example = (EXTRAS / "Caddyfile").read_text()
    here = {
        "\tauto_https ": "\tadmin off\n\tskip_install_trust\n\tauto_https ",
        "gpu.example.lan {": f"https://localhost:{port} {{\n\tbind 127.0.0.1",
        "/var/log/caddy": str(folder),
        GATEWAY: gateway,
    }
    path = folder / "Caddyfile"
    path.write_text(changed(example, {**here, **changes}))
    named = ("--config", str(path), "--adapter", "caddyfile")
    return Program("caddy", ("caddy", "run", *named), ("caddy", "validate", *named))


PROGRAMS = {"nginx": nginx, "caddy": caddy}
VOUCHING = {"nginx": "server.pem", "caddy": "caddy/pki/authorities/local/root.crt"}
"""Where each keeps what vouches for its certificate."""


def changed(text: str, changes: Mapping[str, str]) -> str:
    """Returns a text with each part replaced; one that is not there is a mistake of the test."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def front(
    name: str, folder: Path, gateway: str, changes: Mapping[str, str] = NO_CHANGE
) -> AsyncIterator[Front]:
    """Runs a proxy in front of a gateway for the block.

    Args:
        name: ``nginx`` or ``caddy``.
        folder: for its files; nothing else is written in it.
        gateway: host and port.
        changes: to the example, part by part.
    """
    port = free_port()
    program = PROGRAMS[name](folder, gateway, port, changes)
    with (folder / "terminal.log").open("wb") as terminal:
        process = await asyncio.create_subprocess_exec(
            *program.serve,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
            env=home(folder),
        )
    try:
        running = Front(f"https://localhost:{port}", folder / VOUCHING[name], folder, process.pid)
        await ready(running, process, port)
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def home(folder: Path) -> dict[str, str]:
    """Returns an environment in which a program keeps its own things in the folder."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder)}


async def ready(running: Front, process: asyncio.subprocess.Process, port: int) -> None:
    """Waits until the proxy shows its certificate."""
    async with asyncio.timeout(30):
        while True:
            assert process.returncode is None, running.written()
            try:
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=running.trust, server_hostname="localhost"
                )
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.transport.abort()
                return
