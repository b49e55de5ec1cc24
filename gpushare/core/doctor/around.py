"""Checks of what gpushare stands between: Ollama and its slots, the GPUs, a proxy in front."""

import re
from collections.abc import Iterator

from gpushare.core import wording
from gpushare.core.doctor.base import Finding, fail, ok, warn
from gpushare.core.doctor.facts import Facts, Front

ONE_BY_DEFAULT = (0, 10)
"""From this version on Ollama runs one call at a time unless told otherwise; before, it decided by itself."""
PARALLEL = "OLLAMA_NUM_PARALLEL"
HELD_BACK = 0.5
"""Lines that arrive within this part of the time in which they were sent were held back."""


def ollama(facts: Facts) -> Iterator[Finding]:
    """Ollama answers, has models, and nobody reaches it but through the queue."""
    found = facts.ollama
    host, port = facts.config.ollama.address
    where = f"{host}:{port}"
    if found.error:
        remedy = "is it running? systemctl status ollama; at another address? set ollama.url"
        yield fail("ollama", f"does not answer at {where} ({found.error})", remedy)
    elif not found.models:
        yield warn("ollama", f"{found.version} at {where} has no model yet", "ollama pull MODEL")
    else:
        models = "1 model" if found.models == 1 else f"{found.models} models"
        quickly = f"answers in {1000 * found.answer_s:.0f} ms"
        yield ok("ollama", f"{found.version} at {where}, {models}, {quickly}")
    if found.open_at:
        own = "127.0.0.1" if port == 11434 else f"127.0.0.1:{port}"
        remedy = f"sudo systemctl edit ollama  → Environment=OLLAMA_HOST={own}, then restart it"
        yield warn("ollama", f"listens on {', '.join(found.open_at)}: people can go round gpushare", remedy)


def gpu(facts: Facts) -> Iterator[Finding]:
    """Each card answers; without a driver there are no numbers, which is told."""
    found = facts.gpu
    if found is None:
        yield ok("gpu", "no numbers are wanted (gpu.backend)")
        return
    driver = f", driver {found.driver}" if found.driver else ""
    for card in found.readings:
        if not card.lost:
            memory = f", {wording.size(card.memory_total)}" if card.memory_total else ""
            yield ok("gpu", f"{card.name or f'card {card.index}'}{driver}{memory}")
    lost = any(card.lost for card in found.readings)
    if found.error and (lost or not found.absent):
        remedy = "nvidia-smi says more; a card that it does not list either may need a restart of the machine"
        yield (fail if lost else warn)("gpu", f"numbers are missing: {found.error}", remedy)
    elif found.error:
        remedy = 'install NVIDIA\'s driver, or do without: gpu.backend = "none"'
        yield warn("gpu", f"no NVIDIA driver here, so pages have no GPU numbers: {found.error}", remedy)


def slots(facts: Facts) -> Iterator[Finding]:
    """As many calls are let through as Ollama runs at a time."""
    own, theirs = facts.config.queue.slots, _parallel(facts)
    if theirs is None and own == 1:
        yield ok("slots", "1, which suits every Ollama; how many it runs at a time cannot be seen from here")
    elif theirs is None:
        text = f"queue.slots is {own}; whether Ollama runs as many at a time cannot be seen from here"
        yield warn("slots", text, f"see that Ollama has {PARALLEL}={own}; run as root, doctor may see it")
    elif own == theirs:
        yield ok("slots", f"{own}, as many as Ollama runs at a time")
    else:
        text = f"queue.slots is {own} but Ollama runs {theirs} at a time ({PARALLEL})"
        waste = ", and keeps memory for all of them" if own < theirs else ""
        yield warn("slots", text + waste, f"set slots = {theirs}, or {PARALLEL}={own} for Ollama")


def _parallel(facts: Facts) -> int | None:
    """Returns how many calls Ollama runs at a time, None where that cannot be known."""
    found = facts.ollama
    if found.environment is None:
        return None
    given = found.environment.get(PARALLEL, "")
    if given:
        return int(given) if re.fullmatch(r"[1-9][0-9]{0,3}", given) else None
    version = re.match(r"(\d+)\.(\d+)", found.version)
    known = version is not None and (int(version[1]), int(version[2])) >= ONE_BY_DEFAULT
    return 1 if known else None


def front(facts: Facts) -> Iterator[Finding]:
    """What stands at the address that people type passes answers on as they come."""
    found, url = facts.front, facts.config.server.public_url
    if found is None:
        return
    if not found.asked:
        remedy = "GPUSHARE_KEY=gs_… gpushare doctor, or first: gpushare login"
        yield warn("proxy", f"{url} was not tried: that needs a key", remedy)
    elif found.error:
        remedy = "server.public_url is what people type; see that it leads here, also from this machine"
        yield warn("proxy", f"{url} does not lead to gpushare ({found.error})", remedy)
    else:
        yield _passing(found, url, wording.duration(facts.config.queue.max_wait))
        yield from _believed(found)


def _passing(found: Front, url: str, wait: str) -> Finding:
    """Returns whether lines that were sent apart arrive apart."""
    sent_s = found.lines[-1].sent_s - found.lines[0].sent_s
    came_s = found.arrived_s[-1] - found.arrived_s[0]
    via = f" ({found.via})" if found.via else ""
    if came_s < HELD_BACK * sent_s:
        text = f"{url}{via} holds answers back: lines sent over {sent_s:.1f} s arrive within {came_s:.1f} s"
        return fail("proxy", text, "turn buffering off, as extras/nginx.conf and extras/Caddyfile do")
    silence = f"; that it waits out {wait} of silence was not tried, see extras/nginx.conf" if via else ""
    return ok("proxy", f"{url}{via} passes answers on as they come{silence}")


def _believed(found: Front) -> Iterator[Finding]:
    """Yields a warning where all callers would count as one address."""
    line = found.lines[0]
    if line.forwarded and not line.trusted:
        text = f"{line.peer} says who its callers are and is not believed: all of them count as one address"
        yield warn("proxy", text, f'add "{line.peer}" to server.trusted_proxies')
