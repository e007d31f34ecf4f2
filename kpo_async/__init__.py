"""kpo_async."""

__version__ = "0.1.0"
