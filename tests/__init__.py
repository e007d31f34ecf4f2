"""Tests. `tests/conftest.py` says what holds for all of them."""
