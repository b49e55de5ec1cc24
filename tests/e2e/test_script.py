"""The words that the page's script counts in are those the server writes."""

import json
import subprocess

import pytest

from gpushare.core import wording
from gpushare.edge.files import asset

SECONDS = [*range(-3, 700), *range(700, 200_000, 97), 10**9, 7.5, 7.99, 57.4, 57.5, 12.5, 74.9, 599.9]
PROGRAM = """
const words = require(process.argv[1]);
const all = {};
for (const [name, say] of Object.entries(words)) all[name] = JSON.parse(process.argv[2]).map(say);
console.log(JSON.stringify(all));
"""


@pytest.mark.needs("node")
def test_script_and_server_use_the_same_words() -> None:
    """Every length of time and every estimate reads the same, whoever puts it into words."""
    command = ["node", "-e", PROGRAM, str(asset("static") / "live.js"), json.dumps(SECONDS)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    said = json.loads(done.stdout)
    expected = {
        "duration": [wording.duration(second) for second in SECONDS],
        "estimate": [wording.estimate(second) for second in SECONDS],
        "within": [wording.within(wording.estimate(second)) for second in SECONDS],
        "left": [wording.left(second) for second in SECONDS],
    }
    assert said == expected
