"""What the cases share: a body for every route, the shapes of errors, a busy GPU, bare sockets, a process."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from gpushare.core.keys import KeyRecord, digest, new_key
from gpushare.edge.files import KeyFile
from gpushare.edge.store import NAME as LEDGER
from gpushare.edge.store import READERS
from gpushare.edge.store.schema import open_reader
from gpushare.sim import Entry, State
from tests.harness import Gate, chat
from tests.unit.web.wire import Wire

Answer = tuple[int, Mapping[str, str], bytes]

ROOT = Path(__file__).parents[2]
FORM = "multipart/form-data; boundary=edge"
BUSY = "server busy, please try again.  maximum pending requests exceeded"
STREAMING = (
    "/api/chat",
    "/api/generate",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
)
DIALECTS = ("/api/chat", "/v1/chat/completions", "/v1/messages")
INFERENCE = (*STREAMING, "/api/embed", "/api/embeddings", "/v1/embeddings", "/v1/audio/transcriptions")
STARTS = {
    "/api/chat": b"",
    "/v1/chat/completions": b"data: ",
    "/v1/responses": b"event: response.failed\ndata: ",
    "/v1/messages": b"event: error\ndata: ",
}
"""How an error begins that is a record of a stream."""
POLLED = ("/api/version", "/api/tags", "/api/ps")
"""What the gateway asks Ollama by itself, so that it says nothing about what was forwarded."""


# --- requests --------------------------------------------------------------------------------------------


def body_of(path: str, text: str = "hello", *, model: str = "m", **fields: Any) -> dict[str, Any]:
    """Returns a body for a route that takes JSON; it streams only if ``stream=True`` is given."""
    contents: dict[str, dict[str, Any]] = {
        "/api/chat": {"messages": [{"role": "user", "content": text}], "stream": False},
        "/api/generate": {"prompt": text, "stream": False},
        "/api/embed": {"input": text},
        "/api/embeddings": {"prompt": text},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": text}]},
        "/v1/completions": {"prompt": text},
        "/v1/embeddings": {"input": text},
        "/v1/responses": {"input": text},
        "/v1/messages": {"messages": [{"role": "user", "content": text}], "max_tokens": 99},
    }
    return {"model": model, **contents[path], **fields}


def form_of(model: str = "m", audio: bytes = b"RIFF") -> bytes:
    """Returns a transcription form, delimited as ``FORM`` says."""
    named = f'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n'
    file = '--edge\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return named.encode() + file.encode() + audio + b"\r\n--edge--\r\n"


async def ask(
    gate: Gate, path: str, text: str = "hello", *, who: str | None = "alice", **fields: Any
) -> Answer:
    """Sends a call to an inference route, whichever form its body takes."""
    if path == "/v1/audio/transcriptions":
        headers = {"Content-Type": FORM}
        return await gate.request(
            "POST", path, who=who, data=form_of(fields.get("model", "m")), headers=headers
        )
    return await gate.post(path, body_of(path, text, **fields), who=who)


async def direct(gate: Gate, method: str, path: str, **options: Any) -> Answer:
    """Sends a request past the gateway, to compare with."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, gate.sim.url + path, **options) as response,
    ):
        return response.status, response.headers, await response.read()


# --- what came of them -----------------------------------------------------------------------------------


def calls(gate: Gate) -> list[Entry]:
    """Returns what Ollama was asked, without the gateway's own polls."""
    return [entry for entry in gate.sim.log if entry.path not in POLLED]


def only_call(gate: Gate) -> Entry:
    """Returns the one call that reached Ollama."""
    (entry,) = calls(gate)
    return entry


def done(gate: Gate) -> list[dict[str, Any]]:
    """Returns the final log line of each call that was let into the queue, or was an admin's."""
    lines = [line for line in gate.logs if line["event"] == "request.done"]
    return [line for line in lines if line["log_level"] == "info"]


def last_done(gate: Gate) -> dict[str, Any]:
    """Returns the newest of those lines."""
    return done(gate)[-1]


def nothing_ran(gate: Gate) -> bool:
    """Whether no call got as far as the queue, or to Ollama."""
    return not calls(gate) and not done(gate)


def error_of(path: str, body: bytes) -> str:
    """Returns the sentence of an error after checking that its shape is the dialect's."""
    document = json.loads(body)
    if path.startswith("/v1/messages"):
        assert document["type"] == "error"
        assert set(document["error"]) == {"type", "message"}
        return str(document["error"]["message"])
    if path.startswith("/v1/"):
        assert set(document["error"]) == {"message", "type", "param", "code"}
        return str(document["error"]["message"])
    assert isinstance(document["error"], str)
    return str(document["error"])


def before_error(path: str, stream: bytes) -> bytes:
    """Returns what came of a stream before its last record, after checking that this is an error.

    It must have the dialect's form and be whole.
    """
    mark = b"\n" if path.startswith("/api/") else b"\n\n"
    assert stream.endswith(mark)
    passed, found, last = stream.removesuffix(mark).rpartition(mark)
    start = STARTS[path]
    assert last.startswith(start)
    document = json.loads(last.removeprefix(start))
    sentence = error_of(path, last.removeprefix(start))
    if path == "/v1/responses":
        response = document["response"]
        assert (response["status"], response["error"]["message"]) == ("failed", sentence)
    elif path != "/v1/messages":
        assert list(document) == ["error"]
    return passed + found


def frames(stream: bytes) -> list[Any]:
    """Returns the JSON of each event of a stream; ``[DONE]`` stays text."""
    assert stream.endswith(b"\n\n")
    data = [line[6:] for line in stream.decode().split("\n") if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


# --- circumstances ---------------------------------------------------------------------------------------


async def know_models(gate: Gate) -> None:
    """Waits for the gateway's first look at Ollama; before it every model might exist."""
    await gate.until(lambda: gate.parts.monitor.view.models and gate.parts.monitor.view.up)


async def warm(gate: Gate, *models: str) -> None:
    """Loads models, so that what follows is charged from its first moment."""
    for model in models or ("m",):
        path = "/api/embed" if model == "embed" else "/api/chat"
        status, _, _ = await gate.post(path, body_of(path, "#sim:tokens=1", model=model), who="root")
        assert status == 200
    gate.forget()


@asynccontextmanager
async def busy(gate: Gate, *, who: str = "carol") -> AsyncIterator[Entry]:
    """Holds the one slot with a streaming answer for the length of the block."""
    before = sum(entry.path == "/api/chat" for entry in gate.sim.log)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gate.post("/api/chat", chat("#sim:tokens=3,fault=stall@1"), who=who))
        entry = await gate.sim.arrived(before, path="/api/chat")
        try:
            await entry.reached(State.STALLED)
            yield entry
        finally:
            entry.resume()


# --- bare sockets ----------------------------------------------------------------------------------------


@asynccontextmanager
async def dial(port: int, *, receive_bytes: int = 0) -> AsyncIterator[Wire]:
    """Connects a bare socket; a small ``receive_bytes`` makes a slow reader slow soon."""
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    wire = Wire(sock)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield wire
    finally:
        wire.close()


def head(method: str, target: str, *headers: str, version: str = "1.1") -> bytes:
    """Returns a request head."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: 127.0.0.1", *headers, "\r\n"]).encode()


def post(
    gate: Gate, path: str, body: object, *headers: str, who: str = "alice", version: str = "1.1"
) -> bytes:
    """Returns a whole POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    bearer = f"Authorization: Bearer {gate.keys[who]}"
    return head("POST", path, bearer, f"Content-Length: {len(data)}", *headers, version=version) + data


async def exchange(gate: Gate, request: bytes) -> bytes:
    """Sends bytes on a connection of their own; returns all that comes until the gateway closes it."""
    async with dial(gate.port) as wire:
        await wire.send(request)
        return await wire.rest()


def unchunk(body: bytes) -> bytes:
    """Returns the body inside chunks, which must be complete and the last thing there is."""
    whole = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        count = int(size, 16)
        piece, ended, body = body[:count], body[count : count + 2], body[count + 2 :]
        assert ended == b"\r\n"
        if not count:
            assert body == b""
            return whole
        whole += piece


# --- a gateway in a process of its own --------------------------------------------------------------------

REST_S = 30.0
"""Longest wait for rest; only a fault makes it so long."""
SERVE = "import sys; from gpushare.cli import main; sys.exit(main())"
TAKE_OVER = """
import os
os.dup2(int(os.environ["HANDED_OVER"]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="gpushare.socket")
"""
"""Runs before ``SERVE`` in a process that is handed a listener, as a service manager would hand it over."""


LEDGER_KEPT = 1 + READERS + 1
"""Descriptors of the ledger that may stay open: the writer's, one of each reader there was at once, and that
of an examination, which reads beside them."""
LISTENING = "0A"


@dataclass(slots=True)
class Server:
    """``gpushare serve``, whose memory, descriptors and processor time are its own.

    ``first`` is what it had open when it began to serve.
    """

    process: asyncio.subprocess.Process
    keys: dict[str, str]
    state_dir: Path
    config: Path = Path()
    first: Counter[str] = field(default_factory=Counter)
    log: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    @property
    def url(self) -> str:
        """Its address."""
        return str(next(line["address"] for line in self.log if line["event"] == "server.started"))

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return int(self.url.rpartition(":")[2])

    def memory_bytes(self, field: str = "VmRSS") -> int:
        """Returns its resident memory, or with ``VmHWM`` the most it ever was."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{field}:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1]) * 1024

    def descriptors(self) -> int:
        """Returns how many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208 - only the number matters

    def opened(self) -> Counter[str]:
        """Returns what its descriptors are: names of files, kinds of all else."""
        folder = Path(f"/proc/{self.process.pid}")
        tables = [(folder / "net" / name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
        rows = [line.split() for line in (*tables[0], *tables[1])]
        connected = {f"socket:[{row[9]}]" for row in rows if row[3] != LISTENING}
        found: Counter[str] = Counter()
        for link in (folder / "fd").iterdir():
            with suppress(OSError):  # it has been closed meanwhile
                name = link.readlink().name
                found["connection" if name in connected else name.partition(":")[0]] += 1
        return found

    def processor_s(self) -> float:
        """Returns the processor time it has used, in seconds."""
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def state(self) -> str:
        """Returns the letter of its state: ``T`` is stopped."""
        return self._stat()[0]

    def _stat(self) -> list[str]:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()

    def bearer(self, person: str) -> dict[str, str]:
        """Returns the header that carries a person's key."""
        return {"Authorization": f"Bearer {self.keys[person]}"}

    async def metrics(self) -> dict[str, float]:
        """Returns its metrics; those with labels are added up."""
        found: dict[str, float] = {}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session,
            session.get(f"{self.url}/metrics") as answer,
        ):
            for line in (await answer.text()).splitlines():
                if sample := re.fullmatch(r"(gpushare_\w+)(?:\{.*\})? ([-+.\de]+)", line):
                    found[sample[1]] = found.get(sample[1], 0.0) + float(sample[2])
        return found

    async def left(self) -> dict[str, object]:
        """Returns what calls have left behind by now, nothing once it is at rest."""
        found = await self.metrics()
        names = ("slots_held", "waiting_requests", "running_requests", "body_bytes", "ledger_waiting_rows")
        left: dict[str, object] = {name: found[f"gpushare_{name}"] for name in names}
        left["lost"] = found["gpushare_slots_granted_total"] - found["gpushare_slots_released_total"]
        kept = Counter({LEDGER: LEDGER_KEPT, "connection": int(found["gpushare_connections"]) - 1})
        left["opened"] = self.opened() - self.first - kept
        with closing(open_reader(self.state_dir / LEDGER)) as connection:
            (left["noted as running"],) = connection.execute("SELECT count(*) FROM running").fetchone()
            rows = dict(connection.execute("SELECT request_id, outcome FROM calls"))
            since = "SELECT request_id, outcome FROM calls WHERE ended_at >= ? AND outcome != 'lost_crash'"
            own = dict(connection.execute(since, (self.began,)))
        done = [line for line in self.log if line["event"] == "request.done" and line["level"] == "info"]
        told = {line["request"]: line["outcome"] for line in done}
        left["logged twice"] = len(done) - len(told)
        left["log against ledger"] = told.items() - rows.items()
        left["ledger against log"] = own.items() - told.items()
        return {name: value for name, value in left.items() if value}

    async def rest(self) -> None:
        """Waits until everything that ends by itself has ended; nothing may be left then."""
        end = time.monotonic() + REST_S
        while left := await self.left():
            assert time.monotonic() < end, left
            await asyncio.sleep(0.02)
        text = repr(self.log)
        assert not [secret for secret in self.keys.values() if secret in text]

    def terminate(self) -> None:
        """Asks it to end, as a service manager does."""
        self.process.send_signal(signal.SIGTERM)

    async def said(self, event: str, count: int = 1) -> dict[str, Any]:
        """Waits until it has logged something so often, and returns the newest of these lines.

        Raises:
            AssertionError: it ended instead.
        """
        async with asyncio.timeout(30):
            while True:
                found = [line for line in self.log if line["event"] == event]
                if len(found) >= count:
                    return found[-1]
                assert self.process.returncode is None, self.log
                await asyncio.sleep(0.002)


def environment(**more: str) -> dict[str, str]:
    """Returns the variables of a child: as installed, and nothing of a gateway of somebody's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GPUSHARE_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "", **more}


async def run_command(*words: str, cwd: Path | None = None, **env: str) -> tuple[int | None, str]:
    """Runs ``gpushare`` to its end; returns its exit status and what it said on stderr."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVE, *words),
        env=environment(**env),
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
    )
    _, said = await child.communicate()
    child._transport.close()  # type: ignore[attr-defined] # noqa: SLF001 - or it is closed after the check
    return child.returncode, said.decode()


@asynccontextmanager
async def served(
    folder: Path,
    ollama_url: str,
    *,
    people: Mapping[str, dict[str, Any]],
    settings: str = "",
    port: int = 0,
    env: Mapping[str, str] | None = None,
    listener: socket.socket | None = None,
    inside: Sequence[str] = (),
    before: str = "",
) -> AsyncIterator[Server]:
    """Runs ``gpushare serve`` for the block, and checks at its end that nothing is left if it still runs.

    Args:
        folder: for settings and keys.
        ollama_url: the Ollama to use.
        people: get keys, by name.
        settings: further TOML text of the configuration.
        port: to listen on.
        env: further variables.
        listener: handed over in place of listening on the port.
        inside: a command that becomes the server, with the server's own command behind it.
        before: Python that runs in the server's process first.
    """
    state = folder / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    keys = {name: _add_key(KeyFile(state), name, fields) for name, fields in people.items()}
    variables = environment(**(env or {}))
    if listener is not None:
        variables["HANDED_OVER"] = str(listener.fileno())
    config = folder / "config.toml"
    config.write_text(f'[state]\ndir = "{state}"\n[ollama]\nurl = "{ollama_url}"\n{settings}')
    process = await asyncio.create_subprocess_exec(
        *(*inside, sys.executable, "-c", (before if listener is None else TAKE_OVER) + SERVE),
        *("serve", "-c", str(config), "--listen", f"127.0.0.1:{port}"),
        env=variables,
        pass_fds=() if listener is None else (listener.fileno(),),
        stderr=asyncio.subprocess.PIPE,
    )
    async with watched(Server(process, keys, state, config)) as server:
        yield server


@asynccontextmanager
async def watched(server: Server) -> AsyncIterator[Server]:
    """Collects what a server logs for the block, checks that nothing is left if it still runs, ends it."""
    process = server.process
    try:
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_read_log(server))
            await server.said("server.started")
            await server.metrics()  # from its first connection on libuv keeps a descriptor in reserve
            server.first = server.opened()
            del server.first["connection"], server.first[LEDGER]
            yield server
            if process.returncode is None:
                await server.rest()
            reading.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined] # noqa: SLF001 - or it is closed after the check


def _add_key(file: KeyFile, name: str, fields: dict[str, Any]) -> str:
    secret = new_key(os.urandom(32))
    record = KeyRecord(id=secret.split("_")[1], name=name, sha256=digest(secret), **fields)
    file.edit(lambda ring: ring.added(record, datetime.now(UTC)))
    return secret


async def _read_log(server: Server) -> None:
    """Collects what a server logs, to the end of its life; what it says before it logs is left out."""
    assert server.process.stderr is not None
    async for line in server.process.stderr:
        with suppress(ValueError):
            server.log.append(json.loads(line))
