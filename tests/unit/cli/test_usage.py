import asyncio
import json
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from gpushare.cli.terminal import ExitCode
from gpushare.cli.usage import render
from gpushare.core.usage import By, UsageRow, priced, report
from gpushare.edge.store import Store
from tests.unit.records import CALL

from .conftest import Gateway, Run

NOW = datetime(2026, 11, 20, 14, 3, tzinfo=UTC)
ROWS = [
    UsageRow(
        name="bob", requests=1412, slot_s=29_520.0, tokens_in=9_100_000, tokens_out=1_200_000, waited_s=1260.0
    ),
    UsageRow(
        name="alice", requests=640, slot_s=12_240.0, tokens_in=3_800_000, tokens_out=600_000, waited_s=1080.0
    ),
    UsageRow(name="\x1b[2Jcarol", requests=3, slot_s=3780.0, tokens_in=400_000, tokens_out=100_000),
]
USAGE = report(ROWS, by=By.PERSON, since=NOW, now=NOW)
PATH = "/gpushare/v1/usage?by=person&since=7d"


def screen(text: str) -> str:
    """Returns a text with plain spaces."""
    return text.replace("\u202f", " ")


def test_the_table_is_as_people_compare() -> None:
    """Largest first, one unit a column, a total below; without measured energy there is no such column."""
    assert screen(render(USAGE)).splitlines() == [
        "WHO           GPU TIME  SHARE  REQUESTS  TOKENS IN  TOKENS OUT  WAITED",
        "bob         8 h 12 min   65 %     1 412      9.1 M       1.2 M  21 min",
        "alice       3 h 24 min   27 %       640      3.8 M       0.6 M  18 min",
        "?[2Jcarol   1 h  3 min    8 %         3      0.4 M       0.1 M     0 s",
        "total      12 h 39 min            2 055     13.3 M       1.9 M  39 min",
    ]


def test_energy_shows_where_it_was_measured() -> None:
    """With what it cost where a price is set, and empty where nobody knows."""
    rows = [replace(ROWS[0], energy_j=4.5e7), replace(ROWS[1], energy_j=9.36e6), ROWS[2]]
    known = report(rows, by=By.PERSON, since=NOW, now=NOW)
    lines = screen(render(known)).splitlines()
    column = lines[0].index("ENERGY")
    assert [line[column:] for line in lines] == ["ENERGY", "12.5 kWh", " 2.6 kWh", "", "15.1 kWh"]
    assert screen(render(priced(known, 0.3, "€"))).endswith("39 min  15.1 kWh ≈ 4.53 €")


def test_nothing_used_is_a_sentence() -> None:
    """An empty table would leave the reader guessing."""
    text = render(report([], by=By.DAY, since=NOW, now=NOW))
    assert text == f"No requests since {NOW.astimezone():%Y-%m-%d %H:%M}."


@pytest.mark.parametrize(("by", "head"), [("model", "MODEL"), ("day", "DAY"), ("tool", "TOOL")])
def test_the_first_column_says_what_it_is(by: str, head: str) -> None:
    """Told apart by model, day or tool, the rows are these."""
    assert render(report(ROWS, by=By(by), since=NOW, now=NOW)).startswith(head)


# --- on the server ----------------------------------------------------------------------------------------


async def written(path: Path) -> None:
    """Makes a ledger in which bob and alice asked, and alice also long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    store = Store(path, keep_s=1e10, report=lambda *_: None)
    await store.open()
    for number, (person, ago) in enumerate([("bob", 60.0), ("alice", 120.0), ("alice", 30 * 86_400.0)]):
        ended = time.time() - ago
        store.append(
            replace(CALL, request_id=f"r_{number}", person=person, owner=person, ended_at=ended, slot_s=90.0)
        )
    await store.close()


@pytest.fixture
def ledger(home: Path) -> Path:
    """The ledger of this machine."""
    path = home / ".local/state/gpushare/ledger.db"
    asyncio.run(written(path))
    return path


def test_on_the_server_the_ledger_is_read(run: Run, ledger: Path) -> None:
    """Running or not, and nothing has to be given; a week is usual."""
    said = run("usage")
    assert (said.code, said.err) == (0, "")
    assert [line.split()[0] for line in said.out.splitlines()] == ["WHO", "alice", "bob", "total"]
    longer = run("usage", "--since", "40d").out.splitlines()
    assert screen(longer[-1]).split()[:4] == ["total", "4", "min", "3"]


def test_json_and_csv_are_the_same_figures(run: Run, ledger: Path) -> None:
    """For scripts and for spreadsheets."""
    found = json.loads(run("usage", "--by", "model", "--json").out)
    assert (found["schema"], found["by"]) == ("gpushare.usage/1", "model")
    assert [(row["name"], row["requests"], row["slot_s"]) for row in found["rows"]] == [
        ("qwen3:8b", 2, 180.0)
    ]
    text = run("usage", "--by", "model", "--csv").out
    assert text.replace("\r", "") == (
        "model,requests,slot_s,share,tokens_in,tokens_out,waited_s,energy_j\n"
        '"qwen3:8b",2,180.0,1.0,20,40,4.0,\n'
    )
    assert run("usage", "--csv", "--json").code == ExitCode.USAGE


def test_what_is_not_there_yet_is_empty(run: Run, home: Path) -> None:
    """Before the first start there is no ledger; asking makes none."""
    said = run("usage")
    assert (said.code, said.out.startswith("No requests since ")) == (0, True)
    assert not (home / ".local/state").exists()


def test_a_ledger_of_another_version_is_exit_3(run: Run, ledger: Path) -> None:
    """As for a wrong configuration: the file and the way out are named."""
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("PRAGMA user_version = 99")
    said = run("usage")
    assert (said.code, said.out) == (ExitCode.CONFIG, "")
    assert str(ledger) in said.err


def test_a_ledger_that_cannot_be_read_is_exit_5(run: Run, ledger: Path) -> None:
    """It is the service's own; the way out is named."""
    ledger.unlink()
    ledger.mkdir()
    said = run("usage")
    assert (said.code, said.out) == (ExitCode.NOT_ALLOWED, "")
    assert "gpushare usage --url" in said.err


@pytest.mark.parametrize("since", ["yesterday", "7", "2026-99-99"])
def test_a_time_that_is_none_is_exit_2(run: Run, since: str) -> None:
    """Nothing is read or asked then."""
    said = run("usage", "--since", since)
    assert said.code == ExitCode.USAGE
    assert "2026-11-20" in said.err


# --- elsewhere --------------------------------------------------------------------------------------------


def test_elsewhere_the_server_is_asked(
    run: Run, ledger: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the key; an address that is told wins over a ledger that happens to be here."""
    gateway.answer(PATH, (200, msgspec.json.encode(USAGE)))
    monkeypatch.setenv("GPUSHARE_KEY", "gs_000000_own")
    assert screen(run("usage", "--url", gateway.url).out).startswith("WHO           GPU TIME  SHARE")
    monkeypatch.setenv("GPUSHARE_URL", gateway.url)
    assert screen(run("usage").out).startswith("WHO           GPU TIME  SHARE")
    assert gateway.asked == [("GET", PATH, "Bearer gs_000000_own")] * 2
    config = ledger.parents[3] / ".config/gpushare/config.toml"
    assert "alice" in run("usage", "-c", str(config)).out
    assert len(gateway.asked) == 2


def test_refusals_have_their_exit_codes(run: Run, gateway: Gateway, nobody: str) -> None:
    """No key, a ledger that cannot be read there, and nobody at all."""
    refusal = {"error": {"code": "key_missing", "message": "No key.", "request_id": "r_1"}}
    gateway.answer(PATH, (401, json.dumps(refusal).encode()), (503, json.dumps(refusal).encode()))
    assert run("usage", "--url", gateway.url).code == ExitCode.NOT_ALLOWED
    assert run("usage", "--url", gateway.url).code == ExitCode.TRY_LATER
    assert run("usage", "--url", nobody).code == ExitCode.UNREACHABLE
