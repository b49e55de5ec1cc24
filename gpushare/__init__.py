"""gpushare: one fair, streaming front door for a team's shared Ollama."""

__version__ = "0.1.0"
