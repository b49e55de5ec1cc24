"""Copies of the scheduler with one fault planted in each, to see whether the tests would notice."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import gpushare.core

PARTS = tuple(
    "costs backends flows habits accounts turns board outlook forecast views invariants scheduler".split()
)
CORE = Path(gpushare.core.__file__).parent


@dataclass(frozen=True, slots=True)
class Fault:
    """One text in one module, and what a careless change would have made of it.

    ``rule`` is the number of the rule that the fault must break; None where only a long run shows it.
    """

    name: str
    rule: int | None
    module: str
    old: str
    new: str


# The first thirteen are the ones the specification names.
FAULTS = (
    Fault(
        "debt is forgotten when an idle flow is passed",
        None,
        "flows",
        "flow.deficit = min(0.0, flow.deficit + quantum * flow.owner.weight)",
        "flow.deficit = 0.0",
    ),
    Fault(
        "debt of a running owner with an empty queue is forgotten",
        None,
        "flows",
        "if flow.deficit < 0:\n            flow.deficit = min",
        "if flow.deficit < 0 and not flow.leases:\n            flow.deficit = min",
    ),
    Fault(
        "no settlement",
        8,
        "accounts",
        "self.debit(flow, used_s - lease.charged)\n        lease.charged = used_s\n        ",
        "",
    ),
    Fault(
        "a cancelled call stays counted",
        5,
        "accounts",
        "flow.drop(ticket)\n        self._count(ticket, flow, -1)",
        "flow.drop(ticket)",
    ),
    Fault(
        "the cap is ignored",
        17,
        "flows",
        "return self.owner.n_run >= self.owner.max_running > 0",
        "return False",
    ),
    Fault(
        "a capped head blocks the ring",
        10,
        "flows",
        "lets others by\n                self.to_back(flow)\n                skipped += 1",
        "lets others by\n                return None",
    ),
    Fault(
        "last in, first out inside a flow",
        16,
        "flows",
        "queue.insert(place, ticket)",
        "queue.insert(0, ticket)",
    ),
    Fault("an overdraft without limit", 20, "flows", "best_ratio = -overdraft", "best_ratio = -math.inf"),
    Fault(
        "a bigger quantum for one owner",
        14,
        "flows",
        "flow.credit = quantum * flow.owner.weight\n        flow.deficit += flow.credit",
        'flow.credit = quantum * flow.owner.weight * (2 if flow.owner.name == "o0" else 1)\n'
        "        flow.deficit += flow.credit",
    ),
    Fault(
        "no levelling",
        15,
        "accounts",
        "if not self.n_wait:\n            self.level(now)",
        "if not self.n_wait:\n            pass",
    ),
    Fault(
        "a call that is cancelled before its start keeps its slot",
        12,
        "board",
        "lease.backend.busy -= 1",
        "lease.backend.busy -= lease.t_start is not None",
    ),
    Fault(
        "a release is not idempotent",
        None,
        "scheduler",
        "if lease.released:\n            return\n        used = ",
        "used = ",
    ),
    Fault(
        "a cancelled call is left in the queue",
        3,
        "scheduler",
        "ticket.state = State.CANCELLED\n            self.accounts.withdraw",
        "self.accounts.withdraw",
    ),
    # One more for each rule that none of those breaks.
    Fault("one slot more than there are", 1, "backends", "self.busy < self.slots", "self.busy <= self.slots"),
    Fault(
        "a lost backend is used",
        2,
        "backends",
        "self.busy < self.slots and self.up",
        "self.busy < self.slots",
    ),
    Fault(
        "a second release is counted",
        4,
        "scheduler",
        "if lease.released:\n            return\n        used = ",
        "if lease.released:\n            self.released_total += 1\n            return\n        used = ",
    ),
    Fault(
        "a flow stays in NEW when it moves to OLD",
        6,
        "flows",
        "            del self.new[flow]\n            flow.where = _OLD",
        "            flow.where = _OLD",
    ),
    Fault(
        "a flow in debt leaves the ring with it",
        7,
        "flows",
        "flow.where = _OUTSIDE\n        flow.deficit = 0.0",
        "flow.where = _OUTSIDE",
    ),
    Fault(
        "a cancelled call is charged its estimate",
        11,
        "scheduler",
        "used = lease.elapsed_s(now) if used is None else used",
        "used = max(lease.est, lease.elapsed_s(now)) if used is None else used",
    ),
    Fault(
        "laps give credit without end",
        13,
        "flows",
        "flow.deficit = min(flow.deficit + count * flow.credit, top)",
        "flow.deficit = flow.deficit + count * flow.credit * 1000 + top",
    ),
    Fault(
        "no barrier",
        19,
        "backends",
        " and (self.incoming is None or self.incoming == model)",
        "",
    ),
)


def plant(fault: Fault) -> ModuleType:
    """Returns the scheduler module of a copy of the core with the fault in it."""
    package = f"mutant_{abs(hash(fault))}"
    copies: list[str] = []
    try:
        for part in PARTS:
            source = (CORE / f"{part}.py").read_text()
            if part == fault.module:
                if source.count(fault.old) != 1:
                    raise LookupError(f"{fault.name}: its text is in {part} {source.count(fault.old)} times")
                source = source.replace(fault.old, fault.new)
            for other in PARTS:
                source = source.replace(
                    f"from gpushare.core.{other} import", f"from {package}_{other} import"
                )
            source = source.replace(
                "from gpushare.core import invariants, views",
                f"import {package}_invariants as invariants\nimport {package}_views as views",
            )
            copies.append(_load(f"{package}_{part}", source).__name__)
        return sys.modules[copies[-1]]
    finally:
        for name in copies:
            sys.modules.pop(name, None)


def _load(name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = module  # dataclasses look their module up while the class is made
    exec(compile(source, name, "exec"), module.__dict__)
    return module
