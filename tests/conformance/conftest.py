"""Fixtures of the conformance suite."""

from tests.harness import gate as gate
from tests.harness import nothing_left as nothing_left
