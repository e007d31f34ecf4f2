"""The extras of a connection as typed values. Pure: this fetches no connection and asks no cluster.

A value may come from the form (a real boolean), from a URI in an environment variable (always a string) or from JSON.
Errors name the field and the connection, never the value: `kube_config` is a secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from kpo_async.exceptions import ConfigError
from kpo_async.hooks.fields import LEGACY_PREFIX

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True, repr=False)
class Extras:
    """The extras of connection `conn_id`. Empty values, such as empty strings, count as absent."""

    conn_id: str | None
    values: Mapping[str, Any]

    def _get(self, field: str) -> Any:
        value = self.values[field] if field in self.values else self.values.get(LEGACY_PREFIX + field)
        return None if value in ("", {}) else value

    def text(self, field: str) -> str | None:
        """Return a string, None if absent. Raises `ConfigError` for anything else."""
        value = self._get(field)
        if value is None or isinstance(value, str):
            return value
        raise ConfigError(f"{self.origin(field)} must be a string, not {type(value).__name__}.")

    def switch(self, field: str) -> bool | None:
        """Return a boolean, None if absent. Raises `ConfigError` for a word that is neither true nor false."""
        value = self._get(field)
        if value is None or isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise ConfigError(f"{self.origin(field)} must be true or false.")

    def number(self, field: str) -> int | None:
        """Return an integer that is not negative, None if absent. Raises `ConfigError` for anything else."""
        value = self._get(field)
        if value is None:
            return None
        if not str(value).isascii() or not str(value).isdigit():
            raise ConfigError(f"{self.origin(field)} must be a number.")
        return int(value)

    def mapping(self, field: str) -> dict[str, Any] | None:
        """Return an object, given as such or as JSON or YAML text; None if absent. Raises `ConfigError`."""
        value = self._get(field)
        if isinstance(value, str):
            value = self._parse(field, value)
        if not value:
            return None
        if isinstance(value, dict):
            return value
        raise ConfigError(f"{self.origin(field)} must be an object (JSON or YAML), not {type(value).__name__}.")

    def _parse(self, field: str, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            pass  # JSON first: parsing YAML takes a hundred times as long
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"{self.origin(field)} is neither JSON nor YAML.") from None

    def origin(self, field: str) -> str:
        """Return the name of a field for an error message."""
        return f"`{field}` of connection {self.conn_id!r}"
