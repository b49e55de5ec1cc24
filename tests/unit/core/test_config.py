from pathlib import Path

import pytest

from gpushare.core.changes import needs_restart
from gpushare.core.config import Config, Queue, load, parse, warnings
from gpushare.core.problems import ConfigErrors
from gpushare.core.schema import settings

REFERENCE = Path(__file__).parents[3] / "config.toml"


def parsed(text: str) -> Config:
    """Parses a file with nothing in the environment."""
    return parse(text, source="config.toml", env={})


def test_an_empty_file_is_the_defaults() -> None:
    """Nothing has to be set."""
    assert parsed("") == Config()


def test_the_reference_is_exactly_the_defaults() -> None:
    """config.toml gives the defaults, and leaves no setting out."""
    reading = load(REFERENCE.read_text(), source="config.toml", env={})
    assert reading.value == Config()
    assert list(reading.origins) == [setting.name for setting in settings(Config())]


def test_the_reference_says_what_needs_a_restart() -> None:
    """The settings noted as (restart) in config.toml are those that are marked so."""
    section, noted = "", set()
    for line in REFERENCE.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line.endswith("(restart)"):
            noted.add(f"{section}.{line.partition(' ')[0]}")
    assert noted == set(needs_restart())


def test_times_sizes_and_words_become_values() -> None:
    """Times are seconds, sizes are bytes, and auto is None."""
    config = parsed('[queue]\nmax_wait = "90s"\nquantum = "5s"\n[server]\nmax_body = "1MiB"\n')
    assert (config.queue.max_wait, config.queue.quantum, config.queue.stay_on_model) == (90.0, 5.0, None)
    assert config.server.max_body == 1 << 20


def test_addresses_are_split_where_they_are_used() -> None:
    """The listener and the upstream are host and port."""
    config = parsed('[server]\nlisten = "[::1]:1"\n[ollama]\nurl = "http://gpu:2"\n')
    assert (config.server.address, config.ollama.address) == (("::1", 1), ("gpu", 2))


def test_an_integer_may_stand_for_a_number() -> None:
    """A share of 1 needs no decimal point; a queue without slots is refused."""
    assert parsed("[queue]\nbackground_weight = 1").queue == Queue(background_weight=1.0)
    with pytest.raises(ConfigErrors, match="expected a whole number from 1 to 4096, got the number 0"):
        parsed("[queue]\nslots = 0")


@pytest.mark.item(83)
def test_the_example_of_five_mistakes() -> None:
    """Five mistakes print five errors, each with its right line, in the order of the file."""
    text = """[server]
lisen = "127.0.0.1:1"
header_timeout = "15"
[queue]
max_wiat = "4m"
[ollama]
url = 11434
[logs]"""
    with pytest.raises(ConfigErrors) as caught:
        parsed(text)
    assert [problem.line for problem in caught.value.problems] == [2, 3, 5, 7, 8]
    assert str(caught.value).split("\n")[-4:] == [
        "error: config.toml:8:2: logs: no such section",
        "     8 | [logs]",
        '       |  ^^^^ did you mean "log"?',
        "5 errors; nothing was changed. Reference: gpushare config docs",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[ollama]\nurl = "http://127.0.0.1:11435"', "ollama.url: is the address gpushare itself listens on"),
        ('[server]\nmax_body = "200MB"', "server.max_body: must be at most half of server.body_memory"),
        ('[server]\ntls_cert = "a.pem"', "server.tls_cert: needs server.tls_key beside it"),
        ('[server]\ntls_key = "a.key"', "server.tls_key: needs server.tls_cert beside it"),
        ("[server]\nmax_connections = 8", "server.max_connections_per_address: must not be over"),
        ("[queue]\nmax_waiting = 4", "queue.max_waiting_per_person: must not be over queue.max_waiting"),
        ('[ollama]\nfirst_byte_timeout = "2s"', "ollama.first_byte_timeout: must be longer than"),
        ('[ollama]\ntotal_timeout = "5m"', "ollama.total_timeout: must be longer than"),
        ("[gpu]\ndevices = [1, 0, 1]", "gpu.devices: has a card twice"),
        ('[gpu]\ninterval = "100ms"', "gpu.interval: must be from 500ms to 10s"),
        ('[gpu]\ninterval = "11s"', "gpu.interval: must be from 500ms to 10s"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(text: str, said: str) -> None:
    """Values that are each right but cannot work together are one problem, in words."""
    with pytest.raises(ConfigErrors, match=said) as caught:
        parsed(text)
    assert len(caught.value.problems) == 1


def test_contradictions_are_told_with_all_else() -> None:
    """A wrong value elsewhere hides no contradiction: one look at the list is enough."""
    text = """
[queue]
slotz = 1
max_waiting = 4
max_waiting_per_person = 8
[ollama]
cloud = 3
[server]
tls_key = "x"
"""
    with pytest.raises(ConfigErrors) as caught:
        parsed(text)
    assert [problem.setting for problem in caught.value.problems] == [
        "queue.slotz",
        "queue.max_waiting_per_person",
        "ollama.cloud",
        "server.tls_key",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[queue]\nmax_waiting = "100"\nmax_waiting_per_person = 80',
        "[queue]\nmax_waitin = 100\nmax_waiting_per_person = 80",
        "max_waiting = 100\n[queue]\nmax_waiting_per_person = 80",
        "[queue]\nmax_waiting_per_person = 80\nmax_waiting = ",
    ],
)
def test_nothing_is_measured_against_a_value_that_was_not_read(text: str) -> None:
    """One mistake is one problem: a default that was not meant contradicts nothing."""
    with pytest.raises(ConfigErrors) as caught:
        parsed(text)
    assert len(caught.value.problems) == 1


def test_deadlines_may_be_switched_off() -> None:
    """Zero is no deadline, and then there is nothing to compare it with."""
    config = parsed("[ollama]\ntotal_timeout = 0\nfirst_byte_timeout = 0\nidle_timeout = 0\n")
    assert (config.ollama.total_timeout, config.ollama.first_byte_timeout) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[server]\nlisten = "0.0.0.0:11435"', "other machines reach it without TLS"),
        ('[server]\nlisten = "gpu.lan:11435"', "other machines reach it without TLS"),
        ('[ollama]\nurl = "http://10.0.0.2:11434"', "goes round the queue"),
        ('[queue]\nmax_wait = "5m"', "most tools give up"),
        ('[gpu]\nbackend = "fake"', "are invented"),
    ],
)
def test_a_door_that_is_open_is_a_warning(text: str, said: str) -> None:
    """A network listener, a far Ollama, a very long wait and invented numbers work, and are told."""
    (advice,) = warnings(parsed(text))
    assert said in advice.text
    assert str(advice) == f"{advice.text}. {advice.fix[0].upper()}{advice.fix[1:]}."
    assert advice.subject in {"listen", "ollama", "config", "gpu"}


def test_tls_closes_the_open_door() -> None:
    """A network listener with TLS is nothing to warn of, and its address begins with https."""
    config = parsed('[server]\nlisten = "0.0.0.0:1"\ntls_cert = "a.pem"\ntls_key = "a.key"\n')
    assert (warnings(config), config.server.scheme) == ((), "https")
    assert Config().server.scheme == "http"


def test_the_defaults_warn_of_nothing() -> None:
    """Safe as installed, localhost by name included."""
    assert warnings(Config()) == ()
    assert warnings(parsed('[server]\nlisten = "localhost:1"\n')) == ()
