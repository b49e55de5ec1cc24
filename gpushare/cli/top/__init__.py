"""``gpushare top``: the queue, live, with keys.

Rules: the main thread alone decides and draws; the others (stream, keyboard, a cancel on its way) tell it
what happened through one queue.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple
from urllib.parse import quote

import click

from gpushare.cli.client import Server, decode, get, request, server_options
from gpushare.cli.feed import STATUS, Heard, Lost, follow
from gpushare.cli.login import WHOAMI
from gpushare.cli.status import render as once
from gpushare.cli.terminal import Failure
from gpushare.cli.top.keys import Keyboard
from gpushare.cli.top.state import INTERVALS_S, Cancel, Quit, State, press
from gpushare.core.about import Whoami
from gpushare.core.document import Document
from gpushare.core.model import Role


class Suspend(NamedTuple):
    """Ctrl-Z was pressed."""


class Resized(NamedTuple):
    """The window has another size."""


class Said(NamedTuple):
    """Something to tell in the bottom line."""

    text: str


Event = str | Heard | Lost | Failure | Role | Suspend | Resized | Said | Quit


@click.command
@server_options
@click.option(
    "--interval",
    type=click.Choice([f"{seconds:g}" for seconds in INTERVALS_S]),
    default="1",
    show_default=True,
    help="Seconds between two pictures.",
)
def top(server: Server, interval: str) -> None:
    """Show the queue live, with keys; elsewhere than on a terminal, once."""
    document = decode(server, request(server, "GET", STATUS), Document)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        click.echo(click.unstyle(once(document)))
        return
    state = State(interval_s=float(interval))
    state.hear(document, time.monotonic())
    _Top(server, state).run()


class _Top:
    """One session: the terminal, the threads, and the loop between them."""

    def __init__(self, server: Server, state: State) -> None:
        self._server = server
        self._state = state
        self._events: SimpleQueue[Event] = SimpleQueue()

    def run(self) -> None:
        """Draws until the person quits; the terminal is as before then, however it ends."""
        from rich.console import Console
        from rich.live import Live

        from gpushare.cli.top.screen import render

        console = Console()
        live = Live(
            console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        Thread(target=self._listen, daemon=True).start()
        with Keyboard(sys.stdin.fileno(), self._events.put) as keyboard, _signals(self._events.put), live:
            while True:
                now = time.monotonic()
                self._state.tick(now)
                size = console.size
                live.update(render(self._state, width=size.width, height=size.height, now=now), refresh=True)
                event = self._next()
                if isinstance(event, Quit):
                    return
                if isinstance(event, Suspend):
                    live.stop()
                    keyboard.give_back()
                    _stop_here()
                    keyboard.take()
                    live.start()

    def _next(self) -> Event | None:
        """Waits for something to happen, at most until the clock shows another second, and takes it in."""
        try:
            event = self._events.get(timeout=1 - time.time() % 1)
        except Empty:
            return None
        match event:
            case Role():  # a string too, so it comes before the keys
                self._state.is_admin = event is Role.ADMIN
            case str():
                return self._press(event)
            case Heard():
                self._state.hear(event.document, time.monotonic())
            case Lost():
                self._state.lost = event
            case Said():
                self._state.said = event.text
            case Failure():
                raise event
        return event

    def _press(self, key: str) -> Quit | None:
        action = press(self._state, key)
        if isinstance(action, Cancel):
            Thread(target=self._cancel, args=(action.id,), daemon=True).start()
            return None
        return action

    def _listen(self) -> None:
        """Hands on what the server says: first who is asking, then every document."""
        try:
            if self._server.key:
                self._events.put(get(self._server, WHOAMI, Whoami).role)
        except Failure:
            pass  # what follows says it better
        try:
            for event in follow(self._server, interval_s=1.0):
                self._events.put(event)
        except Failure as failure:
            self._events.put(failure)

    def _cancel(self, request_id: str) -> None:
        """Ends a request, and tells how that went."""
        try:
            request(self._server, "DELETE", f"/gpushare/v1/queue/{quote(request_id, safe='')}")
        except Failure as failure:
            self._events.put(Said(failure.message))
        else:
            self._events.put(Said("Cancelled."))


@contextmanager
def _signals(happened: Callable[[Event], None]) -> Iterator[None]:
    """Turns signals into events for the length of the block."""
    told: dict[int, Event] = {
        signal.SIGTSTP: Suspend(),
        signal.SIGWINCH: Resized(),
        signal.SIGTERM: Quit(),
        signal.SIGHUP: Quit(),
    }
    before = {number: signal.signal(number, lambda caught, _frame: happened(told[caught])) for number in told}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_here() -> None:
    """Stops this process as Ctrl-Z does, and returns when it goes on."""
    ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, ours)
