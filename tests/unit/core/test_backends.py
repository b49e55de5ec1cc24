"""Tests of slots and of what a backend has loaded."""

import pytest

from gpushare.core.backends import Backend, Want
from gpushare.core.model import Lane


def want(model: str, lane: Lane = Lane.GENERATE) -> Want:
    """Returns a need."""
    return Want(lane, model)


@pytest.mark.parametrize(
    ("busy", "up", "free"), [(0, True, True), (1, True, False), (0, False, False), (1, False, False)]
)
def test_a_free_backend_is_up_and_has_a_slot(*, busy: int, up: bool, free: bool) -> None:
    """A slot is free only on a backend that answers."""
    assert Backend(name="gpu", slots=1, busy=busy, up=up).free is free


def test_a_backend_admits_its_lane() -> None:
    """A call needs the right lane."""
    backend = Backend(name="gpu", slots=1)
    assert backend.admits(want("m"))
    assert not backend.admits(want("m", Lane.EMBED))


def test_a_pending_swap_admits_its_model_only() -> None:
    """While a model loads, nothing for another one may start."""
    backend = Backend(name="gpu", slots=2)
    backend.take("m", resident=False)
    assert (backend.busy, backend.incoming) == (1, "m")
    assert backend.admits(want("m"))
    assert not backend.admits(want("other"))
    backend.became_resident("m", 3.0)
    assert backend.incoming is None
    assert backend.resident == {"m": 3.0}
    assert backend.admits(want("other"))


def test_an_embedding_slot_puts_up_no_barrier() -> None:
    """An embedding that is granted fits beside what is loaded, so nobody has to wait for it."""
    backend = Backend(name="embed", slots=2, lane=Lane.EMBED)
    backend.take("e", resident=False)
    assert backend.incoming is None
    assert not backend.evicts("e")


def test_a_new_model_replaces_what_it_does_not_fit_beside() -> None:
    """Without evidence that two models fit together, the loaded one is taken to be gone."""
    backend = Backend(name="gpu", slots=1)
    backend.became_resident("a", 1.0)
    assert backend.evicts("b")
    backend.became_resident("b", 2.0)
    assert backend.resident == {"b": 2.0}
    backend.became_resident("b", 9.0)
    assert backend.resident == {"b": 2.0}


def test_models_seen_together_fit_together() -> None:
    """A listing with two models shows that they fit, so a grant for one of them is no swap."""
    backend = Backend(name="gpu", slots=1)
    backend.list_resident(frozenset({"a", "b"}), 1.0)
    backend.list_resident(frozenset({"a", "b"}), 2.0)
    backend.list_resident(frozenset({"a"}), 3.0)
    assert backend.resident == {"a": 1.0}
    assert not backend.evicts("b")
    assert backend.evicts("c")
    backend.became_resident("b", 4.0)
    assert backend.resident == {"a": 1.0, "b": 4.0}


def test_a_listing_ends_the_swap_it_shows() -> None:
    """A swap is over when its model is listed, and not before."""
    backend = Backend(name="gpu", slots=1)
    backend.take("m", resident=False)
    backend.list_resident(frozenset({"old"}), 1.0)
    assert backend.incoming == "m"
    backend.list_resident(frozenset({"m"}), 2.0)
    assert backend.incoming is None


def test_the_best_place_has_the_model_loaded() -> None:
    """Loaded, loading, empty, nobody's model, and then the one loaded longest: in this order."""
    loaded, loading, empty, unwanted, long, short = (Backend(name=str(i), slots=1) for i in range(6))
    loaded.resident = {"m": 5.0}
    loading.incoming = "m"
    unwanted.resident = {"old": 0.0}
    long.resident = {"x": 1.0}
    short.resident = {"x": 2.0}
    wanted = {want("m"): 1, want("x"): 1}
    backends = [short, long, unwanted, empty, loading, loaded]
    ranked = sorted(backends, key=lambda backend: backend.rank("m", wanted))
    assert ranked == backends[::-1]
