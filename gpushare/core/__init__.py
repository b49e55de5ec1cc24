"""Decisions: pure, synchronous, clockless.  Nothing here awaits, reads a file or logs."""
