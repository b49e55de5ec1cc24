"""The order in which parts begin to close down and come to their end."""

from gpushare.app.life import Life


def test_closing_down_happens_once_and_in_order() -> None:
    """Viewers are told in the order of the entries, and a second asking tells nobody again."""
    said: list[str] = []
    life = Life()
    life.on_drain.extend([lambda: said.append("first"), lambda: said.append("second")])
    life.close_down()
    life.close_down()
    assert said == ["first", "second"]


async def test_the_newest_ends_first() -> None:
    """What was made last may use what was made before it, so it ends before it."""
    ended: list[str] = []
    life = Life()

    async def end(name: str) -> None:
        ended.append(name)

    life.on_stop.extend([lambda: end("made first"), lambda: end("made last")])
    await life.stop()
    await life.stop()
    assert ended == ["made last", "made first"]
