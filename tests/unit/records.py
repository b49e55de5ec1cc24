"""One finished call, for tests of whatever counts, logs or shows calls."""

from gpushare.core.model import Dialect, Outcome, Phase, Record, Service

CALL = Record(
    request_id="r_1",
    key_id="7f3a2c",
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
