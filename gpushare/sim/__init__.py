"""A simulated Ollama with scripted speed, model loads and failures, for the demo and the tests.

It answers like the real server, byte for byte where clients look, and computes nothing: tokens are words of
a fixed text at a scripted pace.  Slots, model loads, swaps and cancellation behave as Ollama's do.

Called by: ``gpushare demo`` and the tests.
Rules: nothing of the gateway is used here, so that a fault of the gateway cannot hide behind the same fault
of its test partner.
"""

from gpushare.sim.journal import Entry, Events, State
from gpushare.sim.script import Fault, FaultKind, Plan, Script, SimModel
from gpushare.sim.server import SimOllama

__all__ = ["Entry", "Events", "Fault", "FaultKind", "Plan", "Script", "SimModel", "SimOllama", "State"]
