"""The tests are worth something only if they notice faults, so faults are planted and must be noticed."""

from contextlib import suppress
from types import ModuleType

import pytest

import gpushare.core.scheduler as real_core
from tests.simulation.mutants import FAULTS, Fault, plant
from tests.simulation.oracle import RULES, RandomSystem
from tests.simulation.scenarios import (
    after_an_idle_gpu,
    lonely_model_share,
    serial_client_share,
    weighted_shares,
)

SEEDS = range(40)


def noticed(core: ModuleType) -> str:
    """Returns what the property suite says first about a core, nothing if it finds no fault."""
    try:
        for seed in SEEDS:
            found = RandomSystem(seed, core=core).run(150)
            if found:
                return f"rules {dict(found)}"
        if not 0.23 < serial_client_share(core, slots=1, hours=1.0) < 0.27:
            return "the share of a serial client on one slot"
        if not 0.23 < serial_client_share(core, slots=2, hours=1.0) < 0.27:
            return "the share of a serial client on two slots"
        if after_an_idle_gpu(core) > 60:
            return "the wait of somebody who had used an idle GPU"
        if lonely_model_share(core) > 0.22:
            return "the share of an owner alone on a model"
        if abs(weighted_shares(core)["o0"] - 1 / 7) > 0.01:
            return "shares by weight"
    except Exception as error:  # noqa: BLE001 - a fault may also break the code itself
        return f"{type(error).__name__}: {error}"
    return ""


def test_the_real_scheduler_has_none_of_the_faults() -> None:
    """The suite that hunts for faults finds none in the scheduler itself."""
    assert noticed(real_core) == ""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_planted_fault_is_noticed(fault: Fault) -> None:
    """Each known fault breaks at least one rule or measure."""
    assert noticed(plant(fault))


def breaks(fault: Fault) -> bool:
    """Returns whether some random system breaks exactly the rule that guards against the fault."""
    core = plant(fault)
    for seed in SEEDS:
        system = RandomSystem(seed, core=core)
        with suppress(Exception):  # the fault may also break the code itself later on
            system.run(150)
        if fault.rule is not None and system.found[fault.rule]:
            return True
    return False


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_was_seen_to_fail(rule: int) -> None:
    """Each rule is broken by a fault planted against it, so it is no rule that cannot fail."""
    mine = [fault for fault in FAULTS if fault.rule == rule]
    assert mine
    assert all(breaks(fault) for fault in mine)
