"""Names and installed models."""

import pytest

from gpushare.sim import Script, SimModel, gojson
from gpushare.sim.store import Store, full_name, is_name


@pytest.mark.parametrize(
    "name",
    ["m", "m:latest", "M:Latest", "library/m", "registry.ollama.ai/library/m:latest", "m:latest:local"],
)
def test_spellings_of_one_name(name: str) -> None:
    """All spellings Ollama takes for one model find it."""
    assert full_name(name) == "m:latest"
    assert Store(Script()).find(name) is not None


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "../x\n"])
def test_impossible_names(name: str) -> None:
    """A name with other characters is no name."""
    assert not is_name(name)


def test_copies_and_removals_show_in_the_list() -> None:
    """A copy has another name and the same weights' size; a removed model is gone."""
    store = Store(Script(models=(SimModel(name="a", size=5),)))
    store.put("b", store.find("a"))
    assert store.remove("a")
    assert not store.remove("a")
    assert b'"name":"b:latest"' in gojson.dump(store.tags())
    assert b'"size":5' in gojson.dump(store.tags())
    assert b'"name":"a:latest"' not in gojson.dump(store.tags())


def test_show_names_the_capabilities() -> None:
    """Embedding models embed and nothing else; thinking is listed where the model can."""
    store = Store(Script())
    thinker = SimModel(name="t", thinking=True)
    embedder = SimModel(name="e", embedding=True)
    assert store.show(thinker, verbose=False)["capabilities"] == ["completion", "tools", "thinking"]
    assert store.show(embedder, verbose=False)["capabilities"] == ["embedding"]
