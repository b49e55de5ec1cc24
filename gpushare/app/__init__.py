"""Builds every object, wires them, runs and stops them.

These are the only modules that see both the engine's ports and the classes that fit them.  ``build`` makes
the objects, ``serving`` runs them for the length of a block, ``process`` puts a process and its signals
around that.
"""

from gpushare.app.build import build_app, build_parts
from gpushare.app.life import Life
from gpushare.app.process import serve
from gpushare.app.serving import Running, running

__all__ = ["Life", "Running", "build_app", "build_parts", "running", "serve"]
