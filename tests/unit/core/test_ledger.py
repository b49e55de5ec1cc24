import pytest
from msgspec.structs import replace

from gpushare.core.dialects import find_endpoint
from gpushare.core.ledger import Action, Admission, Backlog, begun
from gpushare.core.model import Outcome, Principal
from tests.unit.records import CALL

WHO = Principal(key_id="7f3a2c", name="bob", owner="7f3a2c")
REFUSED = replace(CALL, admitted=False, waited_s=None, outcome=Outcome.REJECTED_KEY_LIMIT, ended_at=120.0)


def admission(number: int = 1, path: str = "/api/chat") -> Admission:
    """Returns the admission of a call."""
    endpoint, _ = find_endpoint("POST", path)
    return Admission(
        request_id=f"r_{number}", who=WHO, tool="curl", endpoint=endpoint, model="qwen3:8b", at=100.0
    )


def filled(*entries: object, limit: int = 100) -> Backlog:
    """Returns a backlog that took these."""
    backlog = Backlog(limit)
    for entry in entries:
        backlog.take(entry)  # type: ignore[arg-type]
    return backlog


def test_a_short_call_is_one_row() -> None:
    """What began and ended since the last round is never noted as running."""
    backlog = filled(admission(), CALL)
    assert (backlog.begun, backlog.left, list(backlog.ended)) == ({}, set(), ["r_1"])
    assert backlog.written() == 1
    assert (len(backlog), backlog.running) == (0, set())


def test_a_long_call_is_noted_as_running_and_forgotten_with_its_row() -> None:
    """Between its admission and its end, a call has a note; then it has a row and no note."""
    backlog = filled(admission())
    (note,) = map(begun, backlog.begun.values())
    assert (note.owner, note.person, note.route, note.queued) == ("7f3a2c", "bob", "/api/chat", True)
    assert backlog.written() == 0
    assert backlog.running == {"r_1"}
    backlog.take(CALL)
    assert (backlog.left, list(backlog.ended)) == ({"r_1"}, ["r_1"])
    backlog.written()
    assert backlog.running == set()


def test_what_has_no_place_in_the_queue_is_told_apart() -> None:
    """An admin's download is let in too, but was never queued."""
    (note,) = map(begun, filled(admission(path="/api/pull")).begun.values())
    assert not note.queued


def test_a_noted_call_gets_a_row_however_it_ended() -> None:
    """A call that was let in is never counted as a refusal instead."""
    backlog = filled(admission(), replace(CALL, admitted=False, outcome=Outcome.INVALID))
    assert (len(backlog.ended), len(backlog.refused)) == (1, 0)


def test_refusals_are_summed_by_key_outcome_and_minute() -> None:
    """A client that tries a thousand times makes one row a minute."""
    backlog = filled(
        *[replace(REFUSED, request_id=f"r_{number}") for number in range(1000)],
        replace(REFUSED, outcome=Outcome.INVALID),
        replace(REFUSED, key_id="000000"),
        replace(REFUSED, ended_at=180.0),
    )
    sums = [(row.minute, row.key_id, row.outcome, row.count) for row in backlog.refused.values()]
    assert sums == [
        (2, "7f3a2c", Outcome.REJECTED_KEY_LIMIT, 1000),
        (2, "7f3a2c", Outcome.INVALID, 1),
        (2, "000000", Outcome.REJECTED_KEY_LIMIT, 1),
        (3, "7f3a2c", Outcome.REJECTED_KEY_LIMIT, 1),
    ]


def test_a_list_that_went_well_is_no_refusal() -> None:
    """Lists are asked for all the time; they are neither calls nor refusals."""
    assert len(filled(replace(CALL, admitted=False, waited_s=None))) == 0


def act(number: int) -> Action:
    """Returns something an admin did."""
    return Action(at=float(number), key_id="7f3a2c", name="bob", what="pause")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda number: replace(CALL, request_id=f"r_{number}"), "ended"),
        (lambda number: replace(REFUSED, ended_at=60.0 * number), "refused"),
        (act, "actions"),
    ],
)
def test_beyond_the_limit_the_oldest_goes_and_is_counted(make: object, kind: str) -> None:
    """Rows wait for the disk in a bounded place."""
    assert callable(make)
    backlog = filled(*map(make, range(25)), limit=10)
    assert backlog.lost == 15
    kept = list(getattr(backlog, kind).values())
    assert kept == list(getattr(filled(*map(make, range(15, 25))), kind).values())


def test_a_row_that_was_given_up_leaves_no_note() -> None:
    """A call whose row is lost did end; a restart must not say that a crash ended it."""
    backlog = filled(admission(), limit=1)
    backlog.written()
    backlog.take(CALL)
    backlog.take(replace(CALL, request_id="r_2"))
    assert list(backlog.ended) == ["r_2"]
    assert backlog.left == {"r_1"}


def test_giving_up_counts_every_row() -> None:
    """Whatever waits at the end of a process that cannot write is told."""
    backlog = filled(CALL, REFUSED, act(1), admission(2))
    backlog.give_up()
    assert (backlog.lost, len(backlog)) == (3, 0)
