"""The measures, for a moment: they reach what they mean to measure, and everybody is served meanwhile."""

from tests.measures import misbehaviour, refusals
from tests.measures.departures import departures


async def test_departures_are_timed() -> None:
    """One time for each."""
    assert len(await departures("queued", "rst", 2)) == 2


async def test_refusals_are_given_and_counted() -> None:
    """P16: every kind is answered as it is meant, while streams run; the first wrong keys are heard out."""
    for kind in await refusals.measure(rounds=1, rate=200, records=10):
        (report,) = kind.reports
        heard = {"401"} if kind.name == "wrong key, again and again" else set()
        assert report.answered.keys() - heard == {kind.expected}, kind.name
        assert sum(report.answered.values()) <= report.offered - report.held_back
        assert kind.pair.beside.gaps


async def test_others_are_served_beside_whoever_misbehaves() -> None:
    """P18: streams and short calls of others come whole beside each kind."""
    pairs = await misbehaviour.measure(rounds=1, records=10)
    assert pairs.keys() == misbehaviour.KINDS.keys()
    for pair in pairs.values():
        assert len(pair.beside.gaps) == len(pair.alone.gaps)
        assert pair.beside.firsts
