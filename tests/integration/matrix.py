"""The fault matrix: which fault, in which state of a call, must come to what.

Rows are faults, some in more than one way; columns are the states of ``tests.integration.scenes``; a cell is
a code of ``CODES``.  A cell that is not there cannot happen.  ``docs/reliability.md`` shows the same table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tests.integration.scenes import State

A, Q, G, C, W, S, F = State
WORK = (G, C, W, S)


class Client(StrEnum):
    """What the client of a call sees of its end."""

    WHOLE = "the whole answer"
    NOTHING = "nothing: it has left"
    STATUS = "an error"
    OLLAMAS = "Ollama's own error, unchanged"
    RECORD = "a last record that is the error, and a clean end"
    UNCHANGED = "Ollama's bytes, unchanged"
    CUT = "a cut connection"


class Retry(StrEnum):
    """What an error says of trying again."""

    AFTER = "`Retry-After`"
    NEVER = "`x-should-retry: false`"
    OPEN = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What must come of a call.

    Attributes:
        outcome: of its one row, log line and count; empty where the call was refused before it was one.
        status: of an error.
        closes: whether its connection ends with it.
        delivered: whether the row says that the client took everything.
    """

    client: Client
    outcome: str = ""
    status: int = 200
    retry: Retry = Retry.OPEN
    closes: bool = False
    delivered: bool = True

    @property
    def seen(self) -> str:
        """What the client sees, in words."""
        if self.client not in (Client.STATUS, Client.OLLAMAS):
            return self.client.value
        told = [str(self.status), self.retry.value, "close" if self.closes else ""]
        if self.client is Client.OLLAMAS:
            told.append(self.client.value)
        return ", ".join(filter(None, told))

    @property
    def written(self) -> str:
        """What the ledger says, in words; empty where it has no row."""
        outcome = f"`{self.outcome}`" if self.outcome else ""
        return outcome if self.delivered or not outcome else f"{outcome}, not delivered"


def _error(status: int, outcome: str = "", retry: Retry = Retry.OPEN, *, closes: bool = False) -> Code:
    return Code(client=Client.STATUS, status=status, outcome=outcome, retry=retry, closes=closes)


def _record(outcome: str) -> Code:
    return Code(client=Client.RECORD, outcome=outcome)


CODES = {
    "ok": Code(client=Client.WHOLE, outcome="ok"),
    "G0": Code(client=Client.NOTHING),
    "GQ": Code(client=Client.NOTHING, outcome="client_gone_queued", delivered=False),
    "GR": Code(client=Client.NOTHING, outcome="client_gone_running", delivered=False),
    "GF": Code(client=Client.NOTHING, outcome="ok", delivered=False),
    "B8": _error(408, closes=True),
    "SL": Code(client=Client.CUT, outcome="client_slow", delivered=False),
    "Q5": _error(503, "breaker_open", Retry.AFTER),
    "BO": _error(503, "", Retry.AFTER),
    "UR": _error(502, "upstream_refused"),
    "U0": _error(502, "upstream_reset", Retry.NEVER),
    "UM": _record("upstream_reset"),
    "UT": Code(client=Client.UNCHANGED, outcome="upstream_truncated"),
    "UT-M": _record("upstream_truncated"),
    "UP": _error(502, "upstream_protocol", Retry.NEVER),
    "UP-M": _record("upstream_protocol"),
    "UE4": Code(client=Client.OLLAMAS, status=404, outcome="upstream_error"),
    "UE5": Code(client=Client.OLLAMAS, status=500, outcome="upstream_error"),
    "UE-M": Code(client=Client.UNCHANGED, outcome="upstream_error"),
    "UB": _error(503, "upstream_busy", Retry.AFTER),
    "TFB": _error(504, "timeout_first_byte", Retry.NEVER),
    "TI": _record("timeout_idle"),
    "TT": _error(504, "timeout_total", Retry.NEVER),
    "TT-M": _record("timeout_total"),
    "QT": _error(429, "queue_timeout", Retry.AFTER),
    "RF": _error(429, "", Retry.AFTER),
    "DR0": _error(503, "", Retry.AFTER, closes=True),
    "DRQ": _error(503, "drained", Retry.AFTER, closes=True),
    "DRR": _error(503, "drained", Retry.AFTER),
    "DRR-M": _record("drained"),
    "RV0": _error(401, "", Retry.NEVER),
    "RVQ": _error(401, "revoked", Retry.NEVER),
    "RVR-M": _record("revoked"),
    "BG0": _error(500, "", Retry.NEVER),
    "BGR": _error(500, "internal_error", Retry.NEVER),
    "BGR-M": _record("internal_error"),
    "BGF": Code(client=Client.UNCHANGED, outcome="internal_error"),
    "K0": Code(client=Client.CUT),
    "K": Code(client=Client.CUT, outcome="lost_crash"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A fault, perhaps one of its ways; ``why`` says what is otherwise than one would expect."""

    fault: str
    text: str
    cells: Mapping[State, str]
    way: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    why: str = ""

    @property
    def name(self) -> str:
        """The fault's number with its way."""
        return f"{self.fault} {self.way}".strip()


def everywhere(code: str, *states: State) -> dict[State, str]:
    """Returns one code for all states, or for these."""
    return dict.fromkeys(states or State, code)


QUICK = {
    "ollama.connect_timeout": "300ms",
    "ollama.first_byte_timeout": "500ms",
    "ollama.idle_timeout": "500ms",
}
GRACE = {"queue.breaker_queue_grace": "100ms", "ollama.health_interval": "100ms"}
DOWN = {"ollama.connect_timeout": "300ms", **GRACE}
UNAFFECTED = everywhere("ok")
LEFT = {A: "G0", Q: "GQ", **everywhere("GR", *WORK), F: "GF"}
CUT = {"auth.revoke_running": "cut"}

MATRIX = (
    Row(fault="F1", way="fin", text="the client closes", cells=LEFT),
    Row(fault="F1", way="rst", text="the client resets", cells=LEFT),
    Row(fault="F2", text="the client closes its side only", cells=LEFT, why="Taken for leaving."),
    Row(
        fault="F3",
        text="the client vanishes",
        cells={A: "B8", Q: "GQ", **everywhere("GR", *WORK), F: "GF"},
        settings={"server.body_timeout": "300ms"},
        why="The kernel finds out by the limits that are set on the connection, and then resets it.",
    ),
    Row(
        fault="F4",
        text="the client stops reading",
        cells={S: "SL", F: "SL"},
        settings={"server.write_stall": "400ms", "server.finish_timeout": "400ms"},
    ),
    Row(
        fault="F5",
        text="the client sends a body byte by byte",
        cells={A: "B8"},
        settings={"server.body_timeout": "300ms"},
    ),
    Row(
        fault="F6",
        text="the client sends another request behind it",
        cells=UNAFFECTED,
        why="The other is answered after it; `test_leaving_ends_the_work` has what is more than is kept.",
    ),
    Row(
        fault="F7",
        text="Ollama is down",
        cells={A: "ok", Q: "Q5", G: "UR", C: "UR"},
        settings=DOWN,
        why="A 502 says nothing of when to come back: that is known once the breaker is open.",
    ),
    Row(
        fault="F8",
        text="Ollama's host drops packets",
        cells={A: "ok", Q: "Q5", G: "UR", C: "UR"},
        settings=DOWN,
    ),
    Row(fault="F9", way="fin", text="Ollama closes before it answers", cells={W: "U0"}),
    Row(fault="F9", way="rst", text="Ollama resets before it answers", cells={W: "U0"}),
    Row(fault="F10", text="Ollama resets within the answer", cells={S: "UM", F: "ok"}),
    Row(fault="F11", text="Ollama sends what is not HTTP", cells={W: "UP", S: "UP-M", F: "ok"}),
    Row(fault="F12", text="Ollama answers 404", cells={W: "UE4"}),
    Row(fault="F13", text="Ollama answers 500, or an error record", cells={W: "UE5", S: "UE-M"}),
    Row(fault="F14", text="Ollama is busy, twice", cells={W: "UB"}),
    Row(fault="F15", text="no first byte in time", cells={W: "TFB"}, settings=QUICK),
    Row(fault="F16", text="no further record in time", cells={S: "TI"}, settings=QUICK),
    Row(
        fault="F17",
        text="the answer takes longer than it may",
        cells={W: "TT", S: "TT-M"},
        settings={
            "ollama.idle_timeout": "500ms",
            "ollama.first_byte_timeout": "0s",
            "ollama.total_timeout": "700ms",
        },
    ),
    Row(
        fault="F18", way="ended", text="Ollama ends the answer without its end mark", cells={W: "U0", S: "UT"}
    ),
    Row(fault="F18", way="closed", text="Ollama closes in the middle", cells={W: "U0", S: "UT-M"}),
    Row(fault="F19", text="Ollama never ends the message behind its end mark", cells={S: "ok", F: "ok"}),
    Row(fault="F20", text="a record without an end", cells={W: "UP", S: "UP-M"}),
    Row(
        fault="F21",
        text="the breaker opens",
        cells={A: "BO", Q: "Q5", G: "ok", W: "ok", S: "ok"},
        settings={"queue.breaker_queue_grace": "100ms"},
        why="Who has a slot goes on: if Ollama is away, the dial says so.",
    ),
    Row(
        fault="F22",
        text="the wait is as long as it may be",
        cells={Q: "QT"},
        settings={"queue.max_wait": "1s"},
    ),
    Row(
        fault="F23",
        text="the queue is full",
        cells={A: "RF"},
        settings={"queue.max_waiting": 1, "queue.max_waiting_per_person": 1},
        why="The body is read first: what it asks for decides where it would wait. Memory for bodies is "
        "looked at before: `test_every_limit_counts_its_hits`.",
    ),
    Row(
        fault="F24",
        text="SIGHUP, other settings",
        cells={**UNAFFECTED, A: "TFB"},
        why="The new limit for the first byte holds for who asks from now on.",
    ),
    Row(fault="F25", text="SIGHUP, settings with mistakes", cells=UNAFFECTED),
    Row(
        fault="F26",
        way="in time",
        text="SIGTERM, and there is time",
        cells={A: "DR0", Q: "DRQ", **everywhere("ok", *WORK, F)},
    ),
    Row(
        fault="F26",
        way="cut",
        text="SIGTERM, and the grace is over",
        cells={A: "DR0", Q: "DRQ", **everywhere("DRR", G, C, W), S: "DRR-M", F: "ok"},
    ),
    Row(
        fault="F27",
        text="kill -9",
        cells={A: "K0", **everywhere("K", Q, C, W, S, F)},
        why="The rows are made at the next start. An answer that was not delivered is lost too. Granted is "
        "no moment that can be seen from outside.",
    ),
    Row(
        fault="F28",
        way="finish",
        text="the key is revoked",
        cells={A: "RV0", Q: "RVQ", **everywhere("ok", *WORK, F)},
    ),
    Row(
        fault="F28",
        way="cut",
        text="the key is revoked, and running answers are cut",
        cells={A: "RV0", Q: "RVQ", **everywhere("RVQ", G, C, W), S: "RVR-M", F: "ok"},
        settings=CUT,
    ),
    Row(
        fault="F29", text="the ledger cannot be written", cells=UNAFFECTED, why="The rows are written later."
    ),
    Row(
        fault="F30",
        text="the process stands still, longer than the limits",
        cells=UNAFFECTED,
        settings={**QUICK, "server.body_timeout": "500ms"},
    ),
    Row(
        fault="F31",
        text="a fault of ours",
        cells={A: "BG0", **everywhere("BGR", Q, G, C, W), S: "BGR-M", F: "BGF"},
    ),
    Row(fault="F32", way="on", text="the wall clock jumps a day ahead", cells=UNAFFECTED),
    Row(fault="F32", way="back", text="the wall clock jumps a day back", cells=UNAFFECTED),
    Row(
        fault="F33",
        text="no descriptor is left",
        cells={**UNAFFECTED, A: "UR", G: "UR"},
        why="New connections wait in the kernel. Who still has to dial Ollama finds no descriptor for it.",
    ),
    Row(
        fault="F34",
        text="the GPU is four times slower",
        cells=UNAFFECTED,
        settings={"ollama.idle_timeout": "500ms"},
    ),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault in one state."""

    row: Row
    state: State

    @property
    def code(self) -> Code:
        """What must come of it."""
        return CODES[self.row.cells[self.state]]

    def __str__(self) -> str:
        """Its name in reports, such as ``F10-streaming``."""
        way = f"-{self.row.way.replace(' ', '-')}" if self.row.way else ""
        return f"{self.row.fault}-{self.state}{way}"


def cells() -> Iterator[Cell]:
    """Yields every cell that can happen."""
    for row in MATRIX:
        for state in State:
            if state in row.cells:
                yield Cell(row, state)
