"""Waiting, streaming and cancelling on asyncio, with no sockets of its own."""
