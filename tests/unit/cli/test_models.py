"""``gpushare models`` against a gateway that answers as told."""

import json
from pathlib import Path

import pytest

from .conftest import Gateway, Run
from .test_queue import ADMIN


@pytest.fixture(autouse=True)
def atlas(gateway: Gateway, home: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway with two models."""
    assert home.is_dir()
    for path, body in ADMIN.items():
        gateway.answer(path, (200, json.dumps(body).encode()))
    monkeypatch.setenv("GPUSHARE_URL", gateway.url)
    return gateway


def test_models_are_listed(run: Run) -> None:
    """Those in memory with their figures; names are inert."""
    said = run("models", "list").out.replace("\u202f", " ")
    assert said == (
        "MODEL  STATE      MEMORY  ON GPU  CONTEXT\nm:30b  in memory  1.0 GB    50 %    4 096\n?[2J\n"
    )


def test_a_store_without_models_says_how_to_get_one(run: Run, atlas: Gateway) -> None:
    """Nothing on stdout."""
    atlas.answer("/gpushare/v1/models", (200, b'{"schema":"gpushare.models/1","models":[]}'))
    said = run("models", "list")
    assert (said.out, "ollama pull NAME" in said.err) == ("", True)


def test_a_model_is_unloaded(run: Run, atlas: Gateway) -> None:
    """Its name is data, whatever is in it."""
    said = run("models", "unload", 'a "m"')
    assert (said.code, said.err.startswith("m:latest leaves memory")) == (0, True)
    assert [json.loads(body) for body in atlas.sent] == [{"model": 'a "m"'}]
