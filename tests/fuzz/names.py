"""Targets: keys, request targets, names, hosts and settings."""

import html
import re
import unicodedata
from datetime import UTC, datetime

from gpushare.core.config import parse
from gpushare.core.credentials import find_key, hides_401, tool_of
from gpushare.core.dialects import ENDPOINTS, dialect_of, find_endpoint, split_target
from gpushare.core.errors import GpushareError, KeyProblem, TwoKeys
from gpushare.core.hosts import (
    forwarded_address,
    host_allowed,
    host_name,
    is_trusted,
    origin_allowed,
    same_origin,
)
from gpushare.core.keys import KeyRecord, KeyRing, digest, has_checksum, key_id, new_key
from gpushare.core.names import canonical_model, is_cloud, is_model_name, may_use
from gpushare.core.people import look_alike, name_problem
from gpushare.core.problems import ConfigErrors
from tests.fuzz.target import words

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = new_key(bytes(range(32)))
OTHER = new_key(bytes(range(32, 64)))
RING = KeyRing([KeyRecord(id=key_id(SECRET), name="alice", sha256=digest(SECRET))])
KEYS = (SECRET.encode(), b"Bearer " + SECRET.encode(), b"Basic YTpi\n" + SECRET.encode())
KEY_TOKENS = (
    *words(b"Bearer |bearer |Basic |gs_| |:|YTpi|\t|,|gs_000102_|gs_\xd9\xa1|\xff|\n|_|0"),
    *(text.encode() for text in (SECRET, OTHER, SECRET[:-6], SECRET[:10])),
)


def keys(data: bytes) -> None:
    """Only the whole key opens, whatever stands around it; what else happens is one of our errors."""
    text = data.decode("utf-8", "surrogateescape")
    first, _, second = text.partition("\n")
    try:
        found = find_key([first] if first else [], second.split("\n") if second else [], None)
    except TwoKeys:
        found = None
        assert text.count("gs_") + text.lower().count("basic") >= 1
    for secret in (text, found or ""):
        try:
            who = RING.authenticate(secret, now=NOW, host="h")
        except KeyProblem as error:
            assert secret != SECRET
            assert not secret or secret not in str(error) or len(secret) < 12
        else:
            assert secret == SECRET
            assert who.name == "alice"
        assert (key_id(secret) == "") or re.fullmatch(r"gs_[0-9a-f]{6}_[0-9A-Za-z]+", secret)
        if secret.isascii():
            has_checksum(secret)
    tool_of(text)
    hides_401(text)


TARGETS = (
    *(row.path.encode() for row in ENDPOINTS),
    *words(b"/status?x=y#z|//v1/models|/static/a.b.css|/v1/messages?beta=true"),
    b"/k/" + SECRET.encode() + b"/api/chat",
)
TARGET_TOKENS = (
    *words(b"/|//|..|/../|%2e|%2f|%00|?|#|;|\\|/k/|/api|/pull|/v1|@|:|~| |\xff|{model}|{digest}|beta=true"),
    *(SECRET.encode(), b"sha256:" + b"0" * 64),
)
CONSTANT = {row.path for row in ENDPOINTS if "{" not in row.path} | {"/v1/messages?beta=true"}
_PATTERNS = re.compile(
    r"/v1/models/[A-Za-z0-9._:-]+|/api/blobs/sha256[:-][0-9a-f]{64}|/api/user/keys/[A-Za-z0-9._~-]+"
)


def target(data: bytes) -> None:
    """What would be sent to Ollama is a constant, or one of three patterns, and holds no key."""
    raw = data.decode("utf-8", "surrogateescape")
    assert dialect_of(raw)
    for method in ("GET", "POST", "HEAD", "DELETE", raw[:6]):
        try:
            found = split_target(raw, key_in_path=True)
            row, upstream = find_endpoint(method, found.path, query=found.query)
        except GpushareError as error:
            assert error.status in (404, 405)
            continue
        assert upstream in CONSTANT or _PATTERNS.fullmatch(upstream)
        assert row.method == method
        path = raw.partition("#")[0].partition("?")[0]
        assert path.removeprefix(f"/k/{found.key}").replace("//", "/", 1) in (found.path, "")
        assert (
            found.key is None
            or found.key not in upstream
            or found.key in path.removeprefix(f"/k/{found.key}")
        )


NAMES = (b"Alice B", "Zo\u00eb".encode(), b"a/b:1-cloud", b"llama3.2")
NAME_TOKENS = words(b":|/|-cloud|:cloud|library/|<|=|" + "\u202e|\u0430".encode())


def names(data: bytes) -> None:
    """A name that is let in is inert, and like itself; a model's name has one canonical form."""
    text = data.decode("utf-8", "replace")
    if not name_problem(text):
        assert html.escape(text) == text
        assert text.isprintable()
        assert unicodedata.normalize("NFC", text) == text
        assert text[0].isalnum()
        assert len(text) <= 64
        assert not set(text) & set("<>\"'&`$=+|%\\/;{}[]()*?!#,\r\n\t")
    assert look_alike(text, text)
    assert look_alike(text, text.upper()) or len(text.upper()) != len(text) or not text.isascii()
    if is_model_name(text):
        assert re.fullmatch(r"[A-Za-z0-9._:/-]+", text)
        canonical = canonical_model(text)
        assert canonical_model(canonical) == canonical
        assert is_cloud(text) == is_cloud(canonical) == is_cloud(text.upper())
        assert may_use((text,), canonical)
        assert may_use((canonical,), text)
        if re.search(r"[:-]cloud$", text, re.IGNORECASE) and ":" in text.rpartition("/")[2]:
            assert is_cloud(text)


HOSTS = (b"atlas:1\nhttp://atlas:1", b"[::1]:80\nnull")
HOST_TOKENS = words(b"[|]|:|.|%25|127.0.0.1|::1|localhost|.local|http://|null|app://")


def hosts(data: bytes) -> None:
    """No name, origin or address makes the guard fail, and none but plain ones pass it."""
    text = data.decode("utf-8", "surrogateescape")
    first, _, second = text.partition("\n")
    name = host_name(first)
    if host_allowed(first, frozenset({"atlas.example.com"})):
        assert name is not None
        assert re.fullmatch(r"[\w.:%~-]+", name, re.ASCII)
    same_origin(second, first)
    assert not origin_allowed(second, ()) or second.startswith(("app://", "file://", "tauri://", "vscode-"))
    is_trusted(first, {"127.0.0.1"})
    assert forwarded_address("10.0.0.1", text, ("127.0.0.1",)) == "10.0.0.1"
    forwarded_address("127.0.0.1", text, ("127.0.0.1", "10.0.0.1"))


CONFIGS = (
    b'[server]\nlisten = "127.0.0.1:11435"\nmax_body = "32MB"\n[queue]\nslots = 2\nquantum = "auto"\n',
    b'[ollama]\nurl = "http://127.0.0.1:11434"\ntotal_timeout = 0\n[auth]\nkey_in_path = false\n',
    b'[[key]]\nid = "abcdef"\nname = "x"\n',
)
CONFIG_TOKENS = words(
    b"[|]|[[|]]|=|.|\"|\"\"\"|'|'''|#|\n|{|}|,|\\|\\u0000|[server]\n|slots = |listen|1e9|nan|inf|"
    b'true|1979-05-27|0x|_|\xff|\r|[queue]\n|max_wait = |"5m"|"-1"|[]|{}|allowed_origins = |0o7|'
    b"1_000"
)


def config(data: bytes) -> None:
    """A text is a configuration or a list of problems, each of which can be printed."""
    try:
        parse(data.decode("utf-8", "replace"), source="c", env={})
    except ConfigErrors as errors:
        assert errors.problems
        assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", str(errors))
