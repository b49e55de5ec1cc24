"""A finished call, a reading of a card and a ledger that only remembers, for tests of whatever uses them."""

from gpushare.core.gpu import GpuReading
from gpushare.core.ledger import Admission
from gpushare.core.model import Dialect, Outcome, Phase, Record, Service

CALL = Record(
    request_id="r_1",
    key_id="7f3a2c",
    owner="7f3a2c",
    person="bob",
    tool="ollama",
    api=Dialect.OLLAMA,
    route="/api/chat",
    model="qwen3:8b",
    service=Service.INTERACTIVE,
    phase=Phase.DATA,
    outcome=Outcome.OK,
    status=200,
    waited_s=2.0,
    first_s=2.5,
    total_s=6.0,
    slot_s=4.0,
    load_s=1.0,
    input_tokens=10,
    output_tokens=20,
    bytes_out=300,
)

CARD = GpuReading(
    index=0,
    name="NVIDIA RTX 4090",
    uuid="GPU-a",
    busy=0.87,
    memory_used=22_870_000_000,
    memory_total=24 * 1024**3,
    celsius=71,
    watts=338.4,
    watts_limit=450.0,
    slowed=(),
    others=1,
    others_bytes=858_993_459,
)
"""A card that is well."""


class FakeLedger:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.let_in: list[Admission] = []
        self.ended: list[Record] = []

    def admitted(self, admission: Admission) -> None:
        self.let_in.append(admission)

    def append(self, record: Record) -> None:
        self.ended.append(record)
