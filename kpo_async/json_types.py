"""The type of a JSON object."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
"""A Kubernetes object, or any other JSON object, as a plain dict."""
