from dataclasses import replace

import pytest

from gpushare.core.breaker import Door
from gpushare.core.doctor.facts import Disk
from gpushare.core.gpu import GpuReading, GpuView
from gpushare.core.model import ResidentModel
from gpushare.core.notices import notices
from gpushare.core.picture import OllamaView, Picture
from tests.unit.core.test_status import NOW, PICTURE, UP, queue

LARGE = (ResidentModel(name="m", size_bytes=2, vram_bytes=1, context=None, expires=None),)


@pytest.mark.parametrize(
    ("picture", "codes"),
    [
        (PICTURE, []),
        (replace(PICTURE, ollama=OllamaView()), []),
        (replace(PICTURE, ollama=OllamaView(since=NOW - 9)), ["ollama-down"]),
        (replace(PICTURE, draining=True), ["draining"]),
        (replace(PICTURE, queue=queue(paused_since=NOW)), ["paused"]),
        (replace(PICTURE, config_rejected=True), []),
        (replace(PICTURE, ollama=UP.changed(loaded=LARGE)), ["model-on-cpu"]),
        (replace(PICTURE, ollama=UP.changed(breaker=Door.OPEN)), ["ollama-down"]),
        (replace(PICTURE, ollama=UP.changed(failing=("secret:70b",))), ["model-failing"]),
        (replace(PICTURE, ollama=UP.changed(dropped=("secret:70b",))), ["model-dropped"]),
        (replace(PICTURE, day=replace(PICTURE.day, busy_s=1000.0, loading_s=240.0)), []),
        (replace(PICTURE, day=replace(PICTURE.day, busy_s=1000.0, loading_s=260.0)), ["swapping"]),
        (replace(PICTURE, day=replace(PICTURE.day, busy_s=10.0, loading_s=40.0)), []),
        (replace(PICTURE, late_s=0.9), []),
        (replace(PICTURE, late_s=1.0), ["server-late"]),
        (replace(PICTURE, disk=Disk(free=4, total=100)), ["disk-full"]),
        (replace(PICTURE, disk=Disk(free=5, total=100)), []),
        (replace(PICTURE, ollama=UP.changed(version="0.33.0-simulated")), ["demo"]),
    ],
)
def test_each_trouble_has_its_notice(picture: Picture, codes: list[str]) -> None:
    """A server that is well says nothing, and one that was never asked is not called down."""
    assert [notice.code for notice in notices(picture, admin=False)] == codes


@pytest.mark.parametrize("what", ["failing", "dropped"])
def test_only_admins_are_told_which_model_fails(what: str) -> None:
    """A key may be limited to some models; it does not learn the names of others from a notice."""
    wrong = replace(PICTURE, ollama=UP.changed(**{what: ("secret:70b",)}))
    (for_admin,), (for_others,) = notices(wrong, admin=True), notices(wrong, admin=False)
    assert "secret:70b" in for_admin.text
    assert "secret" not in for_others.text


def test_at_most_three_notices_gravest_first() -> None:
    """When everything is wrong at once the page stays readable."""
    wrong = replace(
        PICTURE,
        draining=True,
        queue=queue(paused_since=NOW),
        ollama=OllamaView(since=NOW - 9, loaded=LARGE),
    )
    assert [notice.code for notice in notices(wrong, admin=True)] == ["ollama-down", "draining", "paused"]


@pytest.mark.parametrize(
    ("door", "told"),
    [(Door.OPEN, "are turned away"), (Door.HALF_OPEN, "are tried"), (Door.CLOSED, "are tried")],
)
def test_requests_are_turned_away_only_where_the_door_is_shut(door: Door, told: str) -> None:
    """A question that Ollama leaves unanswered stops no call: the breaker does."""
    (notice,) = notices(replace(PICTURE, ollama=OllamaView(since=NOW - 9, breaker=door)), admin=False)
    assert told in notice.text


def test_that_everything_is_invented_is_always_said() -> None:
    """However much is wrong: who takes a demo for a real server is misled about everything else."""
    wrong = replace(
        PICTURE,
        draining=True,
        queue=queue(paused_since=NOW),
        ollama=OllamaView(since=NOW - 9, loaded=LARGE, version="0.33.0-simulated"),
    )
    codes = [notice.code for notice in notices(wrong, admin=True)]
    assert codes == ["ollama-down", "draining", "paused", "demo"]


def test_only_admins_are_told_what_only_they_can_put_right() -> None:
    """Mistakes in the settings are nobody else's business."""
    wrong = replace(PICTURE, config_rejected=True)
    assert [notice.code for notice in notices(wrong, admin=True)] == ["config-rejected"]


def test_notices_about_the_gpu_have_their_place() -> None:
    """A card in trouble comes before a model that does not fit, and other programs after it."""
    hot = GpuReading(index=0, slowed=("heat",), memory_total=10, others=1, others_bytes=9)
    gpus = GpuView(readings=(hot,), note=None)
    wrong = replace(PICTURE, ollama=UP.changed(loaded=LARGE), gpus=gpus)
    codes = [notice.code for notice in notices(wrong, admin=False)]
    assert codes == ["gpu-hot", "model-on-cpu", "gpu-shared"]
