"""One JSON object, opened only as far as a decision needs, and only if every reader opens it alike.

Called by: ``core.body``.
Rules: Ollama's reader (Go's ``encoding/json``) matches names without regard to case and lets the last of two
equal names win, where most readers are exact.  What the two would read differently is refused.  All work is
linear in the body's length, and its extent is bounded before the first object is built, because the event
loop of every running stream waits meanwhile; what takes long in a long body yields in between.
"""

import codecs
import re
from array import array
from collections.abc import Generator, Iterable, Iterator
from itertools import accumulate

import msgspec
from msgspec import Raw

from gpushare.core.errors import BadJson, InvalidRequest

DEPTH_MAX = 64
CONTAINERS_MAX = 50_000  # arrays and objects in one body
TEXTS_MAX = 500_000  # names included
BETWEEN_MAX = 8 * 2**20  # bytes of one body outside of texts: numbers, blanks, what parts them
NAMES_MAX = 1_000  # members of one opened object
HALF_PAIRS_MAX = 100_000  # of surrogates in one body, and what looks like it: each takes a step

_COUNTED_IN_FULL = 1 << 16
_STEP = 1 << 16  # large enough to cost nothing per step, small enough to stay in the processor's cache
_TURN = 16 * _STEP  # a few milliseconds
_OFFSET = re.compile(r"\(byte (\d+)\)")
# The escape of a surrogate without its partner: tools that cut a text cut emoji in two.  The last kind has a
# partner, unless that one's backslash is itself escaped.
_HIGH, _LOW = rb"\\u[dD][89aAbB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF_PAIR = re.compile(
    rb"%(high)b(?!%(low)b)|%(low)b(?<!%(high)b%(low)b)|(%(low)b)(?<=\\%(high)b%(low)b)"
    % {b"high": _HIGH, b"low": _LOW}
)
_ESCAPE = 6  # bytes
_HALVES_TURN = 2_000  # take about as long as a turn
_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(code for code in range(256) if code not in _BRACKETS)
_TURNS = bytes.maketrans(_BRACKETS, b"\x01\xff\x01\xff")  # as signed bytes: +1 and -1


class _Name(str):
    """A member's name; a type of its own, so that the decoder asks ``_Opener`` about every one."""

    __slots__ = ()


def read_object(body: bytes, *, known: frozenset[str]) -> Generator[None, None, dict[str, Raw]]:
    """Returns the members of the one JSON object that a whole body is, their values untouched.

    Yields about every megabyte of a long one.

    Args:
        body: the bytes as received.
        known: the names Ollama reads, in lower case; they must not appear in another spelling.

    Raises:
        BadJson: not JSON, not UTF-8, not an object.
        InvalidRequest: nested too deep, too many parts, a name given twice or in another spelling.
    """
    yield from _check_utf8(body)
    yield from _check_extent(body)
    try:
        return members(body, known=known)
    except BadJson:
        whole = yield from _without_half_pairs(body)
        if whole is None:
            raise
    return members(whole, known=known)


def members(text: bytes | Raw, *, known: frozenset[str]) -> dict[str, Raw]:
    """Returns the members of one object whose extent is known to be harmless; else as ``read_object``."""
    try:
        found, names = _OPENER.open(text)
    except msgspec.ValidationError:
        raise BadJson("The request body is not a JSON object.") from None
    except msgspec.DecodeError as problem:
        raise BadJson(f"The request body is not JSON ({_place(bytes(text), str(problem))}).") from None
    if len(names) != len(found) or not known.issuperset(found):
        _check_names(names, known)
    return found


class _Opener:
    """Opens objects and sees every name in them, also those that a mapping would swallow.

    Making a decoder costs more than most bodies, so there is one; nothing is left in it between two uses.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._decoder = msgspec.json.Decoder(dict[_Name, Raw], dec_hook=self._note)

    def open(self, text: bytes | Raw) -> tuple[dict[str, Raw], list[str]]:
        """Returns the members, which are right if no name is there twice, and every name in order."""
        names = self._names = []
        values = self._decoder.decode(text).values()
        return dict(zip(names, values, strict=False)), names  # names of Python's own type are found faster

    def _note(self, _type: type, name: str) -> _Name:
        if len(self._names) == NAMES_MAX:
            raise InvalidRequest(f"An object has too many fields; the limit here is {NAMES_MAX}.")
        self._names.append(name)
        return _Name(name)


_OPENER = _Opener()


def _check_names(names: Iterable[str], known: frozenset[str]) -> None:
    """Raises InvalidRequest for the first name that is there twice or in another spelling."""
    seen: set[str] = set()
    for name in names:
        folded = name.casefold()
        if name in seen:
            which = f'The field "{folded}"' if folded in known else "A field"
            raise InvalidRequest(f"{which} is given twice. Give it once.")
        if folded in known and name not in known:
            raise InvalidRequest(f'The field "{folded}" is spelt in another case. Write it in lower case.')
        seen.add(name)


def _place(text: bytes, problem: str) -> str:
    """Returns the line and column, both from 1, of the byte a decoding problem names."""
    match = _OFFSET.search(problem)
    before = text[: int(match[1])] if match else text
    line_start = before.rfind(b"\n") + 1
    line = before.count(b"\n") + 1
    column = len(before[line_start:].decode(errors="replace")) + 1
    return f"line {line}, column {column}"


def _without_half_pairs(body: bytes) -> Generator[None, None, bytes | None]:
    """Returns the body with U+FFFD for half surrogate pairs, as Ollama reads it; None if it has none.

    Raises:
        InvalidRequest: it has too many.
    """
    whole: bytearray | None = None
    hits = 0
    for start in range(0, len(body), _TURN):
        end = start + _TURN
        for hit in _HALF_PAIR.finditer(body, start, end + 2 * _ESCAPE - 1):
            if hit.start() < end and _is_half_pair(body, hit):
                whole = whole or bytearray(body)
                whole[hit.start() : hit.end()] = rb"\ufffd"
            hits += 1
            if hits > HALF_PAIRS_MAX:
                raise InvalidRequest(
                    "The request body has too many halves of surrogate pairs; the limit here is "
                    f"{HALF_PAIRS_MAX}."
                )
            if not hits % _HALVES_TURN:
                yield
        yield
    return None if whole is None else bytes(whole)


def _is_half_pair(body: bytes, hit: re.Match[bytes]) -> bool:
    at = hit.start()
    return _escapes(body, at) and not (hit[1] and _escapes(body, at - _ESCAPE))


def _escapes(body: bytes, at: int) -> bool:
    """Whether a backslash is not itself escaped."""
    reach = 64
    while True:
        before = body[max(0, at - reach) : at]
        backslashes = len(before) - len(before.rstrip(b"\\"))
        if backslashes < reach:
            return backslashes % 2 == 0
        reach *= 8


def _check_utf8(body: bytes) -> Iterator[None]:
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        # In steps: a whole body as one string could take four times its size.
        for start in range(0, len(body), _STEP):
            decoder.decode(body[start : start + _STEP])
            if not (start + _STEP) % _TURN:
                yield
    except UnicodeDecodeError:
        raise BadJson("The request body is not valid UTF-8.") from None


def _check_extent(body: bytes) -> Iterator[None]:
    """Refuses nesting, numbers of containers and of all else that no honest request has, before any parsing.

    For text that is not JSON the answer may be either way: the parser refuses it next.
    """
    if len(body) <= BETWEEN_MAX and not (
        _has_more(body, b"{", DEPTH_MAX // 2) or _has_more(body, b"[", DEPTH_MAX // 2)
    ):
        return
    in_string = depth = containers = texts = between = start = turns = 0
    while start < len(body):
        piece = _whole_escapes(body, start)
        start += len(piece)
        if b"\\" in piece:
            piece = piece.replace(rb"\\", b"").replace(rb"\"", b"")
        parts = piece.split(b'"')
        outside = b"".join(parts[in_string::2])
        in_string = (in_string + len(parts) - 1) % 2
        texts += len(parts) // 2
        between += len(outside)
        brackets = outside.translate(_TURNS, _NOT_BRACKETS)
        containers += len(brackets) // 2
        depths = list(accumulate(array("b", brackets), initial=depth))
        depth = depths[-1]
        _refuse_beyond(max(depths), containers, texts, between)
        if start // _TURN > turns:
            turns = start // _TURN
            yield


def _refuse_beyond(depth: int, containers: int, texts: int, between: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidRequest(f"The request body is nested too deep; the limit here is {DEPTH_MAX} levels.")
    if containers > CONTAINERS_MAX:
        raise InvalidRequest(
            f"The request body has too many parts; the limit here is {CONTAINERS_MAX} lists and objects."
        )
    if texts > TEXTS_MAX:
        raise InvalidRequest(f"The request body has too many texts; the limit here is {TEXTS_MAX}.")
    if between > BETWEEN_MAX:
        raise InvalidRequest(
            f"The request body has too many numbers or blanks; the limit here is {BETWEEN_MAX >> 20} MiB "
            "besides texts."
        )


def _whole_escapes(body: bytes, start: int) -> bytes:
    """Returns the next piece of the body, cut where no backslash is parted from what it escapes."""
    piece = body[start : start + _STEP]
    backslashes = len(piece) - len(piece.rstrip(b"\\"))
    return body[start : start + _STEP + 1] if backslashes % 2 else piece


def _has_more(body: bytes, mark: bytes, most: int) -> bool:
    if len(body) <= _COUNTED_IN_FULL:
        return body.count(mark) > most
    at = -1  # jumping from hit to hit passes a long text or picture ten times faster than counting
    for _ in range(most + 1):
        at = body.find(mark, at + 1)
        if at < 0:
            return False
    return True
