"""Fixtures of the integration suite."""

from tests.harness import gate, nothing_left

__all__ = ["gate", "nothing_left"]
