"""What is found out of a machine with a simulated Ollama, a real key file and a real ledger."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from gpushare.app.examination import Subject, examination
from gpushare.core.config import Config, Gpu, Ollama, Server
from gpushare.core.doctor.facts import Door, Facts, Front, Listener, Process
from gpushare.core.gpu import GpuReading, GpuReport
from gpushare.core.keys import KeyRecord, KeyRing, digest, new_key
from gpushare.core.model import Role
from gpushare.edge import kernel, systemctl
from gpushare.edge.files import KeyFile
from gpushare.edge.store import Store
from gpushare.sim import SimOllama
from gpushare.web.connections import make_listener
from tests.driver.nvml_library import VERSION
from tests.machine import Machine, children, machine
from tests.ports import free_port
from tests.simulated import sim

__all__ = ["machine", "sim"]


@pytest.fixture
def config(sim: SimOllama) -> Config:
    """Settings for it; nobody listens at their address, and no driver is asked."""
    listener = make_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    server = Server(listen=f"127.0.0.1:{port}")
    return Config(server=server, ollama=Ollama(url=sim.url), gpu=Gpu(backend="none"))


async def found(config: Config, folder: Path, **more: object) -> Facts:
    """Returns the facts of a server with this state directory."""
    subject = Subject(config=config, source="here", key_file=KeyFile(folder), **more)  # type: ignore[arg-type]
    return await examination(subject)


async def test_ollama_as_it_is(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version, models, how quickly; of the environment of the process that listens what is Ollama's."""
    environments = {os.getpid(): {"OLLAMA_NUM_PARALLEL": "2", "A_SECRET": "x"}}
    monkeypatch.setattr(kernel, "environment", environments.get)
    facts = await found(config, tmp_path)
    ollama = facts.ollama
    assert (ollama.error, ollama.models, ollama.open_at) == ("", len(SimOllama().script.models), ())
    assert ollama.version
    assert ollama.answer_s > 0
    assert ollama.environment == {"OLLAMA_NUM_PARALLEL": "2"}
    assert facts.differing == 3


async def test_ollama_that_is_not_there(config: Config, tmp_path: Path) -> None:
    """Why, in words; and one that is no Ollama."""
    gone = structs.replace(config, ollama=Ollama(url=f"http://{config.server.listen}"))
    assert (await found(gone, tmp_path)).ollama.error == "connection refused"


async def test_an_ollama_that_others_reach(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the kernel's table of listeners; unless the other listener on this port is our own."""
    port = config.ollama.address[1]
    monkeypatch.setattr(kernel, "listeners", lambda port: (Listener(address="0.0.0.0", port=port),))
    assert (await found(config, tmp_path)).ollama.open_at == (f"0.0.0.0:{port}",)
    beside = structs.replace(config, server=Server(listen=f"127.0.0.2:{port}"))
    monkeypatch.setattr(kernel, "own_addresses", lambda: ())
    assert (await found(beside, tmp_path)).ollama.open_at == ()


async def test_an_ollama_that_answers_elsewhere(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By asking at this machine's own addresses: a container's port is in no table of listeners."""
    monkeypatch.setattr(kernel, "listeners", lambda _port: ())
    monkeypatch.setattr(kernel, "own_addresses", lambda: ("127.0.0.9", "127.0.0.1"))
    assert (await found(config, tmp_path)).ollama.open_at == (f"127.0.0.1:{config.ollama.address[1]}",)


async def test_nothing_is_looked_up_of_a_far_ollama(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who listens on its port on this machine has nothing to do with it."""
    monkeypatch.setattr("gpushare.app.examination.is_loopback", lambda _host: False)
    ollama = (await found(config, tmp_path)).ollama
    assert (ollama.environment, ollama.open_at) == (None, ())


async def test_the_unit_tells_what_a_hidden_process_does_not(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this user may not look into Ollama's process."""
    monkeypatch.setattr(kernel, "environment", lambda _pid: None)
    monkeypatch.setattr(systemctl, "environment", lambda name: {"OLLAMA_HOST": name})
    assert (await found(config, tmp_path)).ollama.environment == {"OLLAMA_HOST": "ollama.service"}


async def test_a_free_address_and_a_taken_one(config: Config, tmp_path: Path) -> None:
    """Who holds it, whether it answers and as what; why nobody could listen there."""
    door = (await found(config, tmp_path)).machine.door
    assert door == Door(where=config.server.listen)
    taken = structs.replace(config, server=Server(listen=config.ollama.url.removeprefix("http://")))
    door = (await found(taken, tmp_path)).machine.door
    assert Process(pid=os.getpid(), name=_own_name()) in door.listeners[0].holders
    assert door.server == ""  # the simulated Ollama does not name itself
    unheard = structs.replace(config, server=Server(listen=f"192.0.2.1:{free_port()}"))
    door = (await found(unheard, tmp_path)).machine.door
    assert door.refused == "cannot assign requested address"


def _own_name() -> str:
    return Path("/proc/self/comm").read_text().strip()


async def test_the_socket_unit_decides_where(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address counts in place of the setting while it is active."""
    said = {"gpushare.socket": {"ActiveState": "active", "Listen": "127.0.0.1:9 (Stream)"}}
    monkeypatch.setattr(systemctl, "unit", lambda name, _properties: said.get(name, {}))
    machine = (await found(config, tmp_path)).machine
    assert machine.door.where == "127.0.0.1:9"
    said["gpushare.socket"]["ActiveState"] = "inactive"
    assert (await found(config, tmp_path)).machine.door.where == config.server.listen


def ring() -> KeyRing:
    """Returns two people, one of whom is an admin twice, and one whose key has ended."""
    now = datetime.now(UTC)
    keys = KeyRing()
    people = (("alice", Role.ADMIN), ("bob", Role.PERSON), ("gone", Role.ADMIN))
    for number, (name, role) in enumerate(people):
        secret = new_key(bytes([number]) * 40)
        ended = now - timedelta(days=1) if name == "gone" else None
        record = KeyRecord(
            id=secret.split("_")[1], name=name, sha256=digest(secret), role=role, expires=ended
        )
        keys = keys.added(record, now)
    return keys


async def test_keys_and_files(config: Config, tmp_path: Path) -> None:
    """Only good keys count; every file of the state directory is looked at, and those that settings name."""
    key_file = KeyFile(tmp_path / "state")
    key_file.edit(lambda _: ring())
    secret = tmp_path / "secret"
    secret.touch(0o644)
    config = structs.replace(config, auth=structs.replace(config.auth, session_secret_file=str(secret)))
    facts = await found(config, tmp_path / "state")
    assert (facts.keys.people, facts.keys.admins) == (2, 1)
    modes = {Path(entry.path).name: (entry.mode, entry.allowed) for entry in facts.machine.entries}
    assert modes["state"] == (0o700, 0o055)
    assert modes["keys.toml"] == (0o600, 0)
    assert modes["secret"] == (0o644, 0)
    (tmp_path / "state/keys.toml").write_text("[[key]]\nid = 3\n")
    problem = (await found(config, tmp_path / "state")).keys.problem
    assert problem is not None
    assert problem.source.endswith("keys.toml")


async def test_a_ledger(config: Config, tmp_path: Path) -> None:
    """None, a whole one, a damaged one, one that is locked."""
    path = tmp_path / "ledger.db"
    assert (await found(config, tmp_path)).ledger.size is None
    store = Store(path, keep_s=1e9, report=lambda *_args, **_fields: None)
    await store.open()
    await store.close()
    ledger = (await found(config, tmp_path)).ledger
    assert (ledger.size, ledger.problem, ledger.error) == (path.stat().st_size, None, "")
    path.write_bytes(b"no ledger at all" * 1000)
    for more in ("ledger.db-wal", "ledger.db-shm"):
        (tmp_path / more).unlink(missing_ok=True)
    problem = (await found(config, tmp_path)).ledger.problem
    assert problem is not None
    assert "damaged" in problem.message
    path.unlink()
    path.mkdir()
    assert (await found(config, tmp_path)).ledger.error


async def test_the_way_people_come_is_tried_with_a_key(config: Config, tmp_path: Path) -> None:
    """Without one that is told, and a running server leaves it alone."""
    assert (await found(config, tmp_path, key="gs_x")).front is None
    public = structs.replace(config, server=structs.replace(config.server, public_url=config.ollama.url))
    assert (await found(public, tmp_path)).front is None
    assert (await found(public, tmp_path, key="")).front == Front()
    front = (await found(public, tmp_path, key="gs_x")).front
    assert front == Front(asked=True, error="it answers with status 404")


async def test_gpus(config: Config, tmp_path: Path) -> None:
    """What a server has read, else the driver's answer; none where none are wanted."""
    assert (await found(config, tmp_path)).gpu is None
    seen = GpuReport(readings=(GpuReading(index=0, name="card"),))
    asking = structs.replace(config, gpu=Gpu(backend="auto"))
    assert (await found(asking, tmp_path, gpu=seen)).gpu == seen
    assert (await found(structs.replace(config, gpu=Gpu(backend="fake")), tmp_path)).gpu == GpuReport()


async def test_a_driver_is_asked_once(config: Config, tmp_path: Path, machine: Machine) -> None:
    """By a child that is gone then."""
    asking = structs.replace(config, gpu=Gpu(backend="auto"))
    before = children()
    gpu = (await found(asking, tmp_path)).gpu
    assert gpu is not None
    assert [card.uuid for card in gpu.readings] == ["GPU-1", "GPU-2"]
    assert gpu.driver == VERSION
    assert children() == before
    assert not machine.hangs


async def test_a_driver_that_hangs_is_given_up(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With that as the answer."""
    monkeypatch.setattr("gpushare.app.examination.GPU_PATIENCE_S", 0.0)
    gpu = (await found(structs.replace(config, gpu=Gpu(backend="auto")), tmp_path)).gpu
    assert gpu == GpuReport(error="the driver does not answer within 0 s")


async def test_limits_are_those_of_the_process_that_runs(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else those of the unit, else those of a process started from here."""
    own = kernel.descriptors(None)
    assert (await found(config, tmp_path)).machine.descriptors == own
    unit = {"ActiveState": "inactive", "LimitNOFILE": "77", "MainPID": "0"}
    monkeypatch.setattr(systemctl, "unit", lambda _name, _properties: unit)
    assert (await found(config, tmp_path)).machine.descriptors == 77
    unit["MainPID"] = str(os.getpid())
    assert (await found(config, tmp_path)).machine.descriptors == own
