"""Fixtures of the fuzz suite."""

from tests.harness import nothing_left

__all__ = ["nothing_left"]
