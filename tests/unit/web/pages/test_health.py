"""What machines look at."""

import json

from prometheus_client.parser import text_string_to_metric_families

from gpushare.core.picture import OllamaView
from tests.unit import records
from tests.unit.web.site import Site


async def test_readiness_follows_ollama(site: Site) -> None:
    """P37: alive is always ok; ready is 503 with one word while a call would not be admitted."""
    assert (await site.get("/readyz"))[::2] == (200, "ok")
    site.parts.monitor.view = site.parts.monitor.view.changed(up=False)
    assert (await site.get("/readyz"))[::2] == (503, "ollama-down")
    site.parts.monitor.view = OllamaView()
    assert (await site.get("/readyz"))[::2] == (503, "starting")
    site.queue.draining = True
    assert (await site.get("/readyz"))[::2] == (503, "draining")
    assert (await site.get("/healthz"))[::2] == (200, "ok")


async def test_metrics_parse(site: Site) -> None:
    """Prometheus reads the page, with the counts of what ended."""
    site.parts.stats.record(records.CALL)
    status, headers, text = await site.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    assert families["gpushare_requests"].samples[0].value == 1


async def test_metrics_are_for_listed_networks(far_site: Site, closed_site: Site) -> None:
    """Another network gets a 403 that says what to change; without metrics there is no such page."""
    status, _, text = await far_site.get("/metrics")
    assert (status, json.loads(text)["error"]["code"]) == (403, "network_denied")
    status, _, _ = await far_site.get("/metrics", **{"X-Forwarded-For": "10.1.2.3"})
    assert status == 200
    assert (await closed_site.get("/metrics"))[0] == 404
