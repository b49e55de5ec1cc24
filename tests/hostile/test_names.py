"""Items 75 to 84: what is shown to people and counted by machines cannot act, deceive or grow."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpushare.cli import main
from gpushare.core.config import parse
from gpushare.core.keys import KeyRecord, digest, new_key, parse_keys
from gpushare.core.problems import ConfigErrors
from gpushare.edge.files import KeyFile
from gpushare.sim import Script, SimModel
from tests.conformance.tools import busy, dial, exchange, know_models, post
from tests.harness import CANARY, Gate, chat, gateway
from tests.hostile.tools import chat_shot, quotes_nothing, shot
from tests.unit.web.wire import statuses

MARKUP = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "{{7*7}}",
    "${7*7}",
    "{% raw %}",
    "javascript:alert(1)",
    "' onmouseover='alert(1)",
    "&lt;b&gt;",
)
DECEIT = (
    "bob\u202ecilA",
    "a\u200bb",
    "a\u2066b",
    "a\ufeffb",
    "e\u0301" * 20,
    "Z\u0351\u0352\u0353algo",
    "\x1b[2Jbob",
    "\x9b2J",
    "a\nb",
    "a\rb",
    "a\tb",
    "a\0b",
    "a\u2028b",
    "a\u00a0b",
    "",
    " ",
    " bob",
    "bob ",
    "x" * 65,
    "b\u043eb",
    "\uff42\uff4f\uff42",
    "\U0001d41b\U0001d428\U0001d41b",
    "bob\U000e0041",
    "😀",
)
ACTING = re.compile("[\0-\t\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\U000e0041]")
"""What a terminal acts on, or a reader does not see."""
FORMULAS = ("=HYPERLINK(1)", "+cmd", "@SUM", "-1+1", "=1", "|calc", "%0A", "\t=1")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state directory, where commands work in this test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("GPUSHARE_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").touch()
    return tmp_path


@pytest.mark.item(75)
@pytest.mark.item(76)
@pytest.mark.item(77)
@pytest.mark.item(84)
@pytest.mark.parametrize(
    "name", [*MARKUP, *DECEIT, *FORMULAS, "--help", "-x", "$(id)", "`id`", "a;b", "gs_x"]
)
def test_names_that_nobody_gets(name: str, home: Path) -> None:
    """P34: neither the command nor the key file takes a name that could do more than be read."""
    assert main(("key", "add", "--", name)) != 0
    assert KeyFile(home).load().records == ()
    secret = new_key(bytes(32))
    record = KeyRecord(id=secret.split("_")[1], name=name, sha256=digest(secret))
    table = f'[[key]]\nid = "{record.id}"\nsha256 = "{record.sha256}"\nname = {toml(name)}\n'
    with pytest.raises(ConfigErrors) as caught:
        parse_keys(table, source="keys.toml")
    assert not ACTING.search(str(caught.value))


def toml(text: str) -> str:
    """Returns a text as a TOML string in plain characters."""
    return '"' + "".join(f"\\U{ord(char):08x}" for char in text) + '"'


@pytest.mark.item(78)
@pytest.mark.parametrize("name", ["bob", "Bob", "BOB", "b0b", "вов"])
def test_a_name_that_looks_taken(name: str, home: Path) -> None:
    """Two people have names that a reader can tell apart."""
    assert main(("key", "add", "bob")) == 0
    assert main(("key", "add", name)) != 0
    assert len(KeyFile(home).load().records) == 1


@pytest.mark.item(84)
@pytest.mark.parametrize("command", ["revoke", "disable", "rotate", "set"])
@pytest.mark.parametrize("who", ["-x", "--all", "$(touch x)", "../../etc/passwd", "*", ""])
def test_a_key_that_looks_like_an_option(command: str, who: str, home: Path) -> None:
    """Behind ``--`` everything is a name, and a name is only compared."""
    assert main(("key", "add", "bob")) == 0
    before = KeyFile(home).load().tables()
    extra = ("--weight", "2") if command == "set" else ()
    assert main(("key", command, *extra, "--", who)) != 0
    assert KeyFile(home).load().tables() == before
    assert not (home / "x").exists()


@pytest.mark.item(75)
@pytest.mark.parametrize(
    "hostile", ["<img src=x onerror=alert(1)>", '"><script>alert(1)</script>', "{{7*7}}"]
)
async def test_hostile_words_on_the_pages(tmp_path: Path, hostile: str) -> None:
    """P34: model names are Ollama's and agents are the client's: on a page both are text."""
    models = (SimModel(name="m:latest"), SimModel(name=f"{hostile}:latest"))
    async with gateway(tmp_path, script=Script(models=models)) as gate:
        await know_models(gate)
        async with busy(gate), dial(gate.port) as wire:
            agent = f"User-Agent: {hostile}"
            await wire.send(post(gate, "/api/chat", chat("x"), agent, f"X-Request-Id: {hostile}"))
            await gate.waiting(1)
            for who in (None, "alice", "bob", "root"):
                for path in ("/status", "/connect", "/gpushare/v1/status", f"/{hostile.replace(' ', '')}"):
                    _, headers, page = await gate.request("GET", path, who=who)
                    assert b"<img src=x" not in page
                    assert b"<script>alert" not in page
                    assert b">49<" not in page
                    assert hostile not in repr(headers)


@pytest.mark.item(79)
async def test_no_series_by_input(gate: Gate) -> None:
    """P35: whatever clients make up, the metrics have the same series."""

    async def series() -> set[str]:
        _, _, page = await gate.request("GET", "/metrics", who=None)
        return {line.rpartition(" ")[0] for line in page.decode().splitlines() if not line.startswith("#")}

    async def round_of(number: int) -> None:
        made_up = f"x{number}"
        body = b'{"model":"%b","messages":[]}' % made_up.encode()
        requests = [
            chat_shot(gate, body=body),
            chat_shot(gate, f"User-Agent: {made_up}/{number}", f"X-Request-Id: {made_up}"),
            shot(gate, f"GET /{made_up} HTTP/1.1", "Connection: close"),
            shot(gate, f"GET /api/{made_up} HTTP/1.1", "Connection: close"),
            shot(gate, f"{'PUT' if number % 2 else 'MKCOL'} /api/chat HTTP/1.1", "Connection: close"),
            chat_shot(gate, f"X-Api-Key: gs_{number:06x}_{'x' * 32}", who=None),
            shot(gate, "GET /api/tags HTTP/1.1", f"Host: {made_up}", "Connection: close"),
        ]
        for request in requests:
            await exchange(gate, request)

    await know_models(gate)
    for number in range(25):  # also past the limit of wrong keys, whose code is a series of its own
        await round_of(number)
    before = await series()
    for number in range(25, 75):
        await round_of(number)
    assert await series() == before


@pytest.mark.item(80)
async def test_odd_label_values(tmp_path: Path) -> None:
    """A name of Ollama's with quotes, backslashes and line ends stays one value of one label."""
    name = 'a"b\\c\nd} 1\n#x:latest'
    async with gateway(
        tmp_path, script=Script(models=(SimModel(name="m:latest"), SimModel(name=name)))
    ) as gate:
        await know_models(gate)
        gate.parts.stats.know([name])
        gate.parts.stats.model_requests[name] += 7
        _, _, page = await gate.request("GET", "/metrics", who=None)
        samples = [s for family in text_string_to_metric_families(page.decode()) for s in family.samples]
        assert [s.value for s in samples if s.labels.get("model") == name] == [7]


@pytest.mark.item(82)
@pytest.mark.parametrize("name", ["X-Request-Id", "X-Gpushare-Request"])
@pytest.mark.parametrize(
    "value", ["<script>", "x" * 8000, "a, b", CANARY, "r_0000000000000000", "", "\u00e9"]
)
async def test_an_id_of_the_clients(gate: Gate, name: str, value: str) -> None:
    """It is replaced by our own, everywhere."""
    for request in (chat_shot(gate, f"{name}: {value}"), chat_shot(gate, f"{name}: {value}", who=None)):
        answer = await exchange(gate, request)
        head = answer.partition(b"\r\n\r\n")[0].decode()
        ids = re.findall(r"^X-(?:Request-Id|Gpushare-Request): (.*)$", head.replace("\r", ""), re.MULTILINE)
        assert len(ids) == 2
        assert len(set(ids)) == 1
        assert re.fullmatch(r"r_[0-9a-f]{16}", ids[0])
        assert ids[0] != value
        assert not value or value not in head


@pytest.mark.item(82)
@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0b", "a\r\n b"])
async def test_an_id_with_a_line_end(gate: Gate, value: str) -> None:
    """It is no header at all, or another one."""
    answer = await exchange(gate, chat_shot(gate, f"X-Request-Id: {value}"))
    assert statuses(answer) == [400]
    quotes_nothing(gate, answer)


@pytest.mark.item(83)
@pytest.mark.parametrize(
    "text",
    [
        "[server]\nlistn = 1",
        "[nothing]\nx = 1",
        "[server]\nmax_body = true",
        '[server]\nmax_body = "-1MB"',
        "[queue]\nslots = 0",
        "[queue]\nslots = 1e99",
        "[queue]\nslots = nan",
        "[queue",
        "x = \x00",
        "[server]\n[server]",
        '[ollama]\nurl = "file:///etc/passwd"',
        '[ollama]\nurl = "http://user:pw@127.0.0.1"',
        '[server]\nallowed_origins = ["*"]',
        'a = "' + "x" * 100_000,
        "[" * 100_000,
        "a." * 500 + "b = 1",
    ],
    ids=str.__len__,
)
def test_a_configuration_with_mistakes(text: str) -> None:
    """It is refused with the reason, and nothing of it is taken."""
    with pytest.raises(ConfigErrors) as caught:
        parse(text, source="config.toml", env={})
    assert caught.value.problems
    assert all(problem.message for problem in caught.value.problems)
